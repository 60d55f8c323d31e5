-- Record how a run ends, before the room is told: whoever tells it, tells the same.
UPDATE agent_runs
SET status = 'ending', outcome = $3, reason = $4, answer = $5
WHERE id = $1 AND epoch = $2 AND status IN ('running', 'ending')
RETURNING id
