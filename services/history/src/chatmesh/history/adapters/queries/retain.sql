-- One small step of retention: look at the next channels in name order, raise the floor
-- of those that keep too much, and empty what lies below it, in one transaction. Nothing
-- waits for a lock: a channel that is being written to has its turn next time.
WITH looked AS MATERIALIZED (
    SELECT
        channel,
        top,
        floor,
        history_namespace(channel) AS namespace
    FROM channels
    WHERE channel > $1
    ORDER BY channel
    LIMIT $2
),

due AS MATERIALIZED (
    SELECT
        l.channel,
        l.floor,
        least(
            l.top,
            l.floor + $3,
            greatest(
                CASE WHEN r.size > 0 THEN l.top - r.size ELSE 0 END,
                CASE WHEN r.age_s > 0 THEN (
                    SELECT max(oldest."offset")
                    FROM (
                        SELECT "offset", at
                        FROM log
                        WHERE log.channel = l.channel AND log."offset" > l.floor
                        ORDER BY log."offset"
                        LIMIT $3
                    ) AS oldest
                    WHERE oldest.at < now() - r.age_s * interval '1 second'
                ) END
            )
        ) AS wanted
    FROM looked AS l
    INNER JOIN unnest($4::text [], $5::bigint [], $6::float8 []) AS r (
        namespace, size, age_s
    ) ON l.namespace = r.namespace
),

bounded AS MATERIALIZED (
    SELECT
        *,
        sum(wanted - floor) OVER (ORDER BY channel) AS work
    FROM due
    WHERE wanted > floor
),

locked AS MATERIALIZED (
    SELECT
        c.channel,
        b.floor AS was,
        b.wanted
    FROM channels AS c
    INNER JOIN bounded AS b ON c.channel = b.channel AND c.floor = b.floor
    -- The first always fits: a channel's own share is bounded above.
    WHERE b.work - (b.wanted - b.floor) < $3
    FOR UPDATE OF c SKIP LOCKED
),

raised AS (
    UPDATE channels AS c SET floor = l.wanted
    FROM locked AS l
    WHERE c.channel = l.channel
),

emptied AS (
    UPDATE log SET data = NULL, info = NULL, tags = NULL
    FROM locked AS l
    WHERE log.channel = l.channel AND log."offset" > l.was AND log."offset" <= l.wanted
    RETURNING 1
)

SELECT
    (SELECT count(*) FROM emptied) AS emptied,
    (SELECT max(channel) FROM looked) AS last
