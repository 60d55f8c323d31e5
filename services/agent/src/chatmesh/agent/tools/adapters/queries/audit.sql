-- The record of one call, in order.
SELECT at_ms, key, event, actor, digest, detail FROM tool_audit
WHERE key = $1
ORDER BY id
