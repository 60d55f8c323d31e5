-- Where many channels stand.
SELECT
    coalesce(c.epoch, lineage.epoch) AS epoch,
    coalesce(c.top, 0) AS top,
    coalesce(c.floor, 0) AS floor
FROM unnest($1::text []) WITH ORDINALITY AS r (channel, n)
CROSS JOIN lineage
LEFT JOIN channels AS c ON r.channel = c.channel
ORDER BY r.n
