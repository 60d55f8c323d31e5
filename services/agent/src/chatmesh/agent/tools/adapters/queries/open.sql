-- Record a call and, if it needs one, its approval; a key that is known changes nothing.
WITH made AS (
    INSERT INTO tool_calls (
        key, run, room, agent, requester, tool, pool, read_only, timeout_ms,
        asked_digest, arguments, digest, parameters, result_schema, state, epoch,
        deadline_ms, created_ms
    )
    VALUES (
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $10, $12, $13,
        CASE WHEN $16::text = '' THEN 'pending' ELSE 'approving' END, $14, $15, $19
    )
    ON CONFLICT (key) DO NOTHING
    RETURNING key
),

asked AS (
    INSERT INTO tool_approvals (
        id, key, roles, deadline_ms, state, arguments, digest
    )
    SELECT $16, key, $17::text [], $18, 'open', $11, $10 FROM made WHERE $16 <> ''
    RETURNING key
)

INSERT INTO tool_audit (at_ms, key, event, actor, digest, detail)
SELECT
    $19,
    key,
    'asked',
    $4,
    $10,
    jsonb_build_object(
        'requester', $5::text, 'room', $3::text, 'run', $2::text, 'tool', $6::text,
        'pool', $7::text, 'arguments', $11::text, 'approval', $16::text
    )
FROM made
