-- Give a run up for somebody else to go on with, at once; since when stands in the lease.
UPDATE agent_runs
SET owner = NULL, lease_until = now(), seq = $3
WHERE id = $1 AND epoch = $2 AND status IN ('running', 'ending')
RETURNING id
