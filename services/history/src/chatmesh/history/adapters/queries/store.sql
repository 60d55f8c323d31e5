-- The second half of `append` and `append_fenced`: number what is `fresh`, store it, and
-- say where every input stands.
raised AS (
    INSERT INTO channels AS c (channel, epoch, top)
    SELECT
        f.channel,
        lineage.epoch,
        max(f.place)
    FROM fresh AS f, lineage
    GROUP BY f.channel, lineage.epoch
    ORDER BY f.channel
    ON CONFLICT (channel) DO UPDATE SET top = c.top + excluded.top
    RETURNING c.channel, c.epoch, c.top
),

numbered AS MATERIALIZED (
    SELECT
        f.*,
        r.epoch,
        r.top - max(f.place) OVER (PARTITION BY f.channel) + f.place AS "offset"
    FROM fresh AS f
    INNER JOIN raised AS r ON f.channel = r.channel
),

stored AS (
    INSERT INTO log (channel, "offset", id, digest, author, data, info, tags, at)
    SELECT
        channel,
        "offset",
        id,
        digest,
        author,
        data,
        info,
        tags::jsonb,
        date_trunc('milliseconds', now())
    FROM numbered
)

SELECT
    n,
    "offset",
    (extract(EPOCH FROM date_trunc('milliseconds', now())) * 1000)::bigint AS at_ms,
    epoch,
    NULL::bytea AS digest,
    NULL::bytea AS info,
    NULL::text AS tags,
    true AS kept
FROM numbered
UNION ALL
SELECT
    i.n,
    l."offset",
    (extract(EPOCH FROM l.at) * 1000)::bigint,
    c.epoch,
    l.digest,
    l.info,
    l.tags::text,
    l.data IS NOT NULL
FROM input AS i
INNER JOIN log AS l ON i.channel = l.channel AND i.had = l."offset"
INNER JOIN channels AS c ON i.channel = c.channel
WHERE i.had IS NOT NULL
