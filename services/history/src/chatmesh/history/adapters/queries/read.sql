-- Pages of many channels, each up to its limit and its bytes, with where the log stands;
-- one snapshot. The first entry of a page always fits. An entry weighs what travels:
-- payload, author's info and tags. octet_length does not fetch a payload that is stored
-- out of line, so only what is returned is read. What a namespace keeps no longer is not
-- shown, although retention may not have been there yet.
SELECT
    r.n,
    coalesce(c.epoch, lineage.epoch) AS epoch,
    coalesce(c.top, 0) AS top,
    coalesce(kept.floor, 0) AS floor,
    e."offset",
    e.id,
    e.data,
    e.info,
    e.tags::text AS tags,
    (extract(EPOCH FROM e.at) * 1000)::bigint AS at_ms
FROM
    unnest(
        $1::text [], $2::bigint [], $3::integer [], $4::boolean [], $5::bigint [],
        $6::boolean []
    )
    WITH ORDINALITY AS r (channel, since, max_entries, reverse, max_bytes, whole, n)
CROSS JOIN lineage
LEFT JOIN channels AS c ON r.channel = c.channel
LEFT JOIN unnest($7::text [], $8::bigint [], $9::float8 []) AS k (
    namespace, size, age_s
) ON NOT r.whole AND k.namespace = history_namespace(r.channel)
CROSS JOIN LATERAL (
    SELECT
        greatest(c.floor, CASE WHEN k.size > 0 THEN c.top - k.size END) AS floor,
        CASE
            WHEN k.age_s > 0 THEN now() - k.age_s * interval '1 second'
            ELSE '-infinity'
        END AS oldest
) AS kept
LEFT JOIN LATERAL (
    SELECT *
    FROM (
        SELECT
            f.*,
            sum(f.size) OVER (ORDER BY f."offset") - f.size AS before
        FROM (
            SELECT
                log.*,
                octet_length(log.data)
                + coalesce(octet_length(log.info), 0)
                + coalesce(octet_length(log.tags::text), 0) AS size
            FROM log
            WHERE
                NOT r.reverse
                AND log.channel = r.channel
                AND log."offset" > greatest(r.since, kept.floor)
                AND log.at >= kept.oldest
            ORDER BY log."offset"
            LIMIT r.max_entries
        ) AS f
        UNION ALL
        SELECT
            b.*,
            sum(b.size) OVER (ORDER BY b."offset" DESC) - b.size AS before
        FROM (
            SELECT
                log.*,
                octet_length(log.data)
                + coalesce(octet_length(log.info), 0)
                + coalesce(octet_length(log.tags::text), 0) AS size
            FROM log
            WHERE
                r.reverse
                AND log.channel = r.channel
                AND log."offset" > kept.floor
                AND log.at >= kept.oldest
                AND log."offset" < r.since
            ORDER BY log."offset" DESC
            LIMIT r.max_entries
        ) AS b
    ) AS page
    WHERE
        page.before = 0
        OR page.before + page.size <= r.max_bytes
) AS e ON true
ORDER BY r.n, CASE WHEN r.reverse THEN -e."offset" ELSE e."offset" END
