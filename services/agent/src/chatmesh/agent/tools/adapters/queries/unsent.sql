-- The broker does not have this attempt, for sure.
UPDATE tool_calls SET state = 'pending', not_before_ms = $3
WHERE key = $1 AND attempt = $2 AND state = 'sending'
