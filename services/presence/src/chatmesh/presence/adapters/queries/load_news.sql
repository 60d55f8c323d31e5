-- Joins and leaves of one partition nobody may have told yet, in order.
SELECT channel, kind, info, number
FROM presence_news
WHERE partition = $1
ORDER BY number
