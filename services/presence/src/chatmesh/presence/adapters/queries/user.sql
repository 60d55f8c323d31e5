-- Where a user is, when they were last seen, and what they say about themselves.
SELECT
    coalesce(here.channels, '{}') AS channels,
    coalesce(here.connections, 0)::integer AS connections,
    CASE
        WHEN here.online THEN (extract(EPOCH FROM clock_timestamp()) * 1000)::bigint
        ELSE coalesce(u.last_seen_ms, 0)
    END AS last_seen_ms,
    coalesce(u.status_text, '') AS status_text,
    coalesce(u.do_not_disturb, false) AS do_not_disturb
FROM (
    SELECT
        array_agg(DISTINCT channel ORDER BY channel) AS channels,
        count(DISTINCT client) AS connections,
        bool_or(lost_until_ms = 0) AS online
    FROM presence_connections
    WHERE user_id = $1 AND user_id <> ''
) AS here
LEFT JOIN presence_users AS u ON u.user_id = $1
