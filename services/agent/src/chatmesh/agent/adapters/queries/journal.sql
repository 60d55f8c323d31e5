-- What has been finished in a run, in order.
SELECT body
FROM agent_journal
WHERE run = $1
ORDER BY place
