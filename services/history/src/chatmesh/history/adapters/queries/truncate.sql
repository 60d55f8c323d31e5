-- One step of removing a channel's history: raise its floor by so many entries, no
-- further than asked, and empty what lies below.
WITH locked AS MATERIALIZED (
    SELECT
        channel,
        epoch,
        top,
        floor AS was,
        greatest(floor, least(floor + $3, top, $2)) AS wanted
    FROM channels
    WHERE channel = $1
    FOR UPDATE
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
)

SELECT
    coalesce(l.epoch, lineage.epoch) AS epoch,
    coalesce(l.top, 0) AS top,
    coalesce(l.wanted, 0) AS floor
FROM lineage
LEFT JOIN locked AS l ON true
