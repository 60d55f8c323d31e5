-- Record why a call was refused.
INSERT INTO tool_audit (at_ms, key, event, actor, digest, detail)
VALUES (
    $1, $2, $3, $4, $5,
    jsonb_build_object(
        'requester', $6::text, 'room', $7::text, 'run', $8::text, 'tool', $9::text,
        'reason', $10::text
    )
)
