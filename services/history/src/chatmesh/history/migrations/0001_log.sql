-- The log: every durable publication there ever was, one row each, ordered by channel.

-- One row: the life of this database's logs. It changes only when a log was put back to
-- an earlier state, so that nobody takes new entries for old ones.
CREATE TABLE lineage (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch text NOT NULL,
    since timestamptz NOT NULL DEFAULT now()
);

INSERT INTO lineage (epoch) VALUES (left(md5(gen_random_uuid()::text), 12));

-- Where each channel stands. Its row is the lock that makes offsets dense.
CREATE TABLE channels (
    channel text COLLATE "C" PRIMARY KEY,
    epoch text NOT NULL,
    top bigint NOT NULL CHECK (top >= 0),
    floor bigint NOT NULL DEFAULT 0 CHECK (floor >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    CHECK (floor <= top)
) WITH (fillfactor = 50); -- room for the next `top` on the same page

-- Rows are never deleted: retention empties data, info and tags and keeps the id, so that
-- an id means the same message for ever.
CREATE TABLE log (
    channel text COLLATE "C" NOT NULL,
    "offset" bigint NOT NULL CHECK ("offset" > 0),
    id text COLLATE "C" NOT NULL,
    digest bytea NOT NULL,
    author text NOT NULL,
    data bytea,
    info bytea,
    tags jsonb,
    at timestamptz NOT NULL,
    PRIMARY KEY (channel, "offset"),
    CONSTRAINT log_id_in_channel UNIQUE (channel, id)
);

-- Who of the replicas lives, and which partitions each of them holds.
CREATE TABLE history_replicas (
    id text PRIMARY KEY,
    lease_until timestamptz NOT NULL,
    joined_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE history_partitions (
    partition integer PRIMARY KEY,
    owner text,
    since timestamptz NOT NULL DEFAULT now()
);

-- Commands that came back again and again: how often processing one has begun.
CREATE TABLE history_attempts (
    channel text COLLATE "C" NOT NULL,
    id text COLLATE "C" NOT NULL,
    attempts integer NOT NULL,
    last_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (channel, id)
);

INSERT INTO history_partitions (partition) SELECT generate_series(0, 15);

-- The namespace of a channel, by the grammar of channel names: what stands before the
-- first colon that is not part of a user list, without the mark of private channels.
CREATE FUNCTION history_namespace(channel text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN strpos(split_part(channel, '#', 1), ':') > 0
        THEN regexp_replace(split_part(split_part(channel, '#', 1), ':', 1), '^\$', '')
    ELSE ''
END;
