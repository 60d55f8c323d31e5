-- Renew the one lease of a replica's runs; what does not come back is no longer its own.
UPDATE agent_runs
SET lease_until = now() + $3::float8 * interval '1 second'
WHERE id = any($1::uuid []) AND owner = $2 AND status IN ('running', 'ending')
RETURNING id, epoch, stop_by, stop_reason
