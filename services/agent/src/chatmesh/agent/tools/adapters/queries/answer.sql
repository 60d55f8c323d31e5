-- Decide an open approval, and with it its call. Changes one row or nothing.
WITH won AS (
    UPDATE tool_approvals
    SET
        state = CASE WHEN $3::boolean THEN 'approved' ELSE 'denied' END,
        answered_by = $4,
        answered_client = $5,
        answered_role = $6,
        answered_ms = $11::bigint,
        reason = $7,
        final_arguments = $8,
        final_digest = $9
    WHERE id = $1 AND digest = $2 AND state = 'open' AND deadline_ms > $11::bigint
    RETURNING id, key
),

moved AS (
    UPDATE tool_calls AS c
    SET
        state = CASE WHEN $3::boolean THEN 'pending' ELSE 'denied' END,
        arguments = CASE WHEN $3::boolean THEN $8 ELSE c.arguments END,
        digest = CASE WHEN $3::boolean THEN $9 ELSE c.digest END,
        deadline_ms = CASE WHEN $3::boolean THEN $10 ELSE c.deadline_ms END,
        content = CASE WHEN $3::boolean THEN '' ELSE $7 END,
        settled_ms = CASE WHEN $3::boolean THEN 0 ELSE $11::bigint END
    FROM won
    WHERE c.key = won.key AND c.state = 'approving'
    RETURNING c.key
)

INSERT INTO tool_audit (at_ms, key, event, actor, digest, detail)
SELECT
    $11::bigint,
    won.key,
    CASE WHEN $3::boolean THEN 'approved' ELSE 'denied' END,
    $4,
    $9,
    jsonb_build_object(
        'approval', won.id, 'role', $6::text, 'client', $5::text,
        'shown', $2::text, 'arguments', $8::text, 'changed', $2 <> $9,
        'reason', $7::text
    )
FROM won
RETURNING key
