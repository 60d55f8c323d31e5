-- What was seen of a run when that was last stored.
SELECT body
FROM agent_checkpoints
WHERE run = $1
