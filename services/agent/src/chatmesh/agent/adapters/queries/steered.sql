-- The oldest message that goes into a run and is not part of it yet.
SELECT
    id,
    requester,
    trigger_text
FROM agent_runs
WHERE into_run = $1 AND status = 'steering'
ORDER BY trigger_offset, id
LIMIT 1
