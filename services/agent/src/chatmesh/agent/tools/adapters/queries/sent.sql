-- The broker has this attempt.
UPDATE tool_calls SET state = 'sent'
WHERE key = $1 AND attempt = $2 AND state = 'sending'
