-- Who is where. All of it can be told anew by the processes that hold the connections, so
-- commits here do not wait for the disk; it outlives every process, which is the point.

-- One row per connection and channel.
CREATE TABLE presence_connections (
    channel text COLLATE "C" NOT NULL,
    client text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    -- The user, or for anonymous connections a control character and the client.
    person text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    conn_info bytea NOT NULL,
    chan_info bytea NOT NULL,
    -- The process that reported it.
    origin text NOT NULL,
    joined_us bigint NOT NULL,
    -- 0: here. Else when the grace of a connection that was lost is over.
    lost_until_ms bigint NOT NULL,
    PRIMARY KEY (channel, client)
);

CREATE INDEX presence_connections_by_person
ON presence_connections (channel, person, joined_us);
CREATE INDEX presence_connections_by_user
ON presence_connections (user_id) WHERE user_id <> '';
CREATE INDEX presence_connections_by_partition ON presence_connections (partition);

-- The connection a user was announced with, where it is gone and the user is not.
CREATE TABLE presence_faces (
    channel text COLLATE "C" NOT NULL,
    user_id text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    client text NOT NULL,
    conn_info bytea NOT NULL,
    chan_info bytea NOT NULL,
    PRIMARY KEY (channel, user_id)
);

CREATE INDEX presence_faces_by_partition ON presence_faces (partition);

-- How many are in each channel, so that nobody has to count them.
CREATE TABLE presence_channels (
    channel text COLLATE "C" PRIMARY KEY,
    partition integer NOT NULL,
    num_clients integer NOT NULL,
    num_users integer NOT NULL
);

-- Joins and leaves from the moment they are facts until the broker has confirmed them.
CREATE TABLE presence_news (
    partition integer NOT NULL,
    number bigint NOT NULL,
    channel text NOT NULL,
    kind text NOT NULL,
    info bytea NOT NULL,
    PRIMARY KEY (partition, number)
);

-- The last report heard of each process.
CREATE TABLE presence_sequences (
    partition integer NOT NULL,
    origin text NOT NULL,
    sequence bigint NOT NULL,
    PRIMARY KEY (partition, origin)
);

-- What is kept of a user who is nowhere.
CREATE TABLE presence_users (
    user_id text COLLATE "C" PRIMARY KEY,
    last_seen_ms bigint NOT NULL DEFAULT 0,
    status_text text NOT NULL DEFAULT '',
    do_not_disturb boolean NOT NULL DEFAULT false
);

-- Who of the replicas lives, and which partitions each of them holds.
CREATE TABLE presence_replicas (
    id text PRIMARY KEY,
    lease_until timestamptz NOT NULL,
    joined_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE presence_partitions (
    partition integer PRIMARY KEY,
    owner text,
    since timestamptz NOT NULL DEFAULT now(),
    -- Number of the newest join or leave; numbers never go back.
    number bigint NOT NULL DEFAULT 0
);

INSERT INTO presence_partitions (partition) SELECT generate_series(0, 15);
