-- End an open call, or say what became of one that was unknown. Whatever came is recorded.
WITH known AS (
    SELECT key, digest, state AS was FROM tool_calls WHERE key = $1 FOR UPDATE
),

ended AS (
    UPDATE tool_calls AS c
    SET
        state = $2,
        content = $3,
        reference = $4,
        size_bytes = $5,
        worker = $7,
        settled_ms = $8
    FROM known
    WHERE
        c.key = known.key
        AND (
            known.was IN ('approving', 'pending', 'sending', 'sent')
            OR (known.was = 'unknown' AND $2 IN ('done', 'failed'))
        )
    RETURNING c.key
),

kept AS (
    INSERT INTO tool_results (reference, content, created_ms)
    SELECT $4, $6, $8 FROM ended WHERE $4 <> ''
    ON CONFLICT (reference) DO NOTHING
),

closed AS (
    UPDATE tool_approvals AS a SET state = 'cancelled'
    FROM ended
    WHERE a.key = ended.key AND a.state = 'open'
),

told AS (
    INSERT INTO tool_audit (at_ms, key, event, actor, digest, detail)
    SELECT
        $8,
        known.key,
        CASE WHEN ended.key IS NULL THEN 'late' ELSE 'settled' END,
        $7,
        known.digest,
        jsonb_build_object(
            'state', $2::text, 'was', known.was, 'content', left($3::text, 4000),
            'bytes', $5::bigint, 'reference', $4::text
        )
    FROM known
    LEFT JOIN ended USING (key)
)

SELECT key FROM ended
