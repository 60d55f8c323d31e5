-- A worker says that nothing happened: once more, not before $3.
WITH again AS (
    UPDATE tool_calls SET state = 'pending', not_before_ms = $3
    WHERE
        key = $1 AND attempt = $2 AND state IN ('sending', 'sent') AND NOT cancel
    RETURNING key, digest
)

INSERT INTO tool_audit (at_ms, key, event, actor, digest, detail)
SELECT
    $5, key, 'retry', '', digest, jsonb_build_object('reason', $4::text)
FROM again
RETURNING key
