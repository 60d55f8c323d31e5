-- Take the right to hand a call to the broker. A read-only call may be handed over twice.
WITH claimed AS (
    UPDATE tool_calls
    SET state = 'sending', epoch = $2, attempt = attempt + 1
    WHERE
        key = $1
        AND epoch <= $2
        AND attempt = $3
        AND NOT cancel
        AND (state = 'pending' OR (state = 'sending' AND read_only))
    RETURNING key, attempt, digest, pool
)

INSERT INTO tool_audit (at_ms, key, event, actor, digest, detail)
SELECT
    $4, key, 'sent', '', digest, jsonb_build_object('attempt', attempt, 'pool', pool)
FROM claimed
RETURNING key
