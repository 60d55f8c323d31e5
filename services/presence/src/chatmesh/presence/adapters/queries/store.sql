-- Store what followed from some reports, if the partitions concerned are still mine; all
-- or nothing. Holding their rows keeps them from being taken over meanwhile. Answers with
-- the database's time and whether it was done.
WITH mine AS MATERIALIZED (
    SELECT count(*) = cardinality($2::integer []) AS held
    FROM (
        SELECT partition FROM presence_partitions
        WHERE owner = $1 AND partition = any($2::integer [])
        FOR SHARE
    ) AS p
),

joined AS (
    INSERT INTO presence_connections AS c (
        channel, client, partition, person, user_id, conn_info, chan_info, origin,
        joined_us, lost_until_ms, announce
    )
    SELECT r.*
    FROM unnest(
        $3::text [], $4::text [], $5::integer [], $6::text [], $7::text [],
        $8::bytea [], $9::bytea [], $10::text [], $11::bigint [], $12::bigint [],
        $13::boolean []
    ) AS r, mine
    WHERE mine.held
    ON CONFLICT (channel, client) DO UPDATE
    SET
        person = excluded.person,
        user_id = excluded.user_id,
        conn_info = excluded.conn_info,
        chan_info = excluded.chan_info,
        origin = excluded.origin,
        joined_us = excluded.joined_us,
        lost_until_ms = excluded.lost_until_ms,
        announce = excluded.announce
),

gone AS (
    DELETE FROM presence_connections AS c
    USING unnest($14::text [], $15::text []) AS r (channel, client), mine
    WHERE mine.held AND c.channel = r.channel AND c.client = r.client
),

faces AS (
    INSERT INTO presence_faces AS f (
        channel, user_id, partition, client, conn_info, chan_info
    )
    SELECT r.*
    FROM unnest(
        $16::text [], $17::text [], $18::integer [], $19::text [], $20::bytea [],
        $21::bytea []
    ) AS r, mine
    WHERE mine.held
    ON CONFLICT (channel, user_id) DO UPDATE
    SET
        client = excluded.client,
        conn_info = excluded.conn_info,
        chan_info = excluded.chan_info
),

faceless AS (
    DELETE FROM presence_faces AS f
    USING unnest($22::text [], $23::text []) AS r (channel, user_id), mine
    WHERE mine.held AND f.channel = r.channel AND f.user_id = r.user_id
),

counted AS (
    INSERT INTO presence_channels AS c (channel, partition, num_clients, num_users)
    SELECT r.*
    FROM unnest($24::text [], $25::integer [], $26::integer [], $27::integer [])
        AS r (channel, partition, num_clients, num_users),
        mine
    WHERE mine.held AND r.num_clients > 0
    ON CONFLICT (channel) DO UPDATE
    SET num_clients = excluded.num_clients, num_users = excluded.num_users
),

emptied AS (
    DELETE FROM presence_channels AS c
    USING unnest($24::text [], $26::integer []) AS r (channel, num_clients), mine
    WHERE mine.held AND c.channel = r.channel AND r.num_clients = 0
),

heard AS (
    INSERT INTO presence_sequences AS s (partition, origin, sequence)
    SELECT r.*
    FROM unnest($28::integer [], $29::text [], $30::bigint [])
        AS r (partition, origin, sequence),
        mine
    WHERE mine.held AND r.sequence > 0
    ON CONFLICT (partition, origin) DO UPDATE SET sequence = excluded.sequence
),

forgotten AS (
    DELETE FROM presence_sequences AS s
    USING
        unnest($28::integer [], $29::text [], $30::bigint [])
            AS r (partition, origin, sequence),
        mine
    WHERE
        mine.held
        AND s.partition = r.partition
        AND s.origin = r.origin
        AND r.sequence = 0
),

news AS (
    INSERT INTO presence_news (partition, number, channel, kind, info)
    SELECT r.*
    FROM unnest(
        $31::integer [], $32::bigint [], $33::text [], $34::text [], $35::bytea []
    ) AS r, mine
    WHERE mine.held
    -- There already, if an earlier run of this very statement was not heard of.
    ON CONFLICT (partition, number) DO NOTHING
),

numbered AS (
    UPDATE presence_partitions AS p
    SET number = r.number
    FROM (
        SELECT partition, max(number) AS number
        FROM unnest($31::integer [], $32::bigint []) AS n (partition, number)
        GROUP BY partition
    ) AS r, mine
    WHERE mine.held AND p.partition = r.partition
),

told AS (
    DELETE FROM presence_news AS n
    USING unnest($36::integer [], $37::bigint []) AS r (partition, number), mine
    WHERE mine.held AND n.partition = r.partition AND n.number <= r.number
),

seen AS (
    -- In one order for every replica: they may have seen the same users.
    INSERT INTO presence_users AS u (user_id, last_seen_ms)
    SELECT r.user_id, r.seen_ms
    FROM unnest($38::text [], $39::bigint []) AS r (user_id, seen_ms), mine
    WHERE mine.held
    ORDER BY r.user_id
    ON CONFLICT (user_id) DO UPDATE
    SET last_seen_ms = greatest(u.last_seen_ms, excluded.last_seen_ms)
)

SELECT
    held,
    (extract(EPOCH FROM clock_timestamp()) * 1000)::bigint AS now_ms
FROM mine
