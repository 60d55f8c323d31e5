-- Record that from some step on everything is said anew.
UPDATE agent_runs
SET attempt = $3
WHERE id = $1 AND epoch = $2 AND status = 'running'
RETURNING id
