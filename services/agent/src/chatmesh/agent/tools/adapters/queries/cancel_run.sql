-- Wish the end of all open calls of a run; those that nobody has been given end at once.
WITH wished AS (
    UPDATE tool_calls
    SET
        cancel = true,
        state = CASE
            WHEN state IN ('approving', 'pending') THEN 'cancelled' ELSE state
        END,
        content = CASE
            WHEN state IN ('approving', 'pending')
                THEN 'cancelled before it ran' ELSE content
        END,
        settled_ms = CASE WHEN state IN ('approving', 'pending') THEN $2::bigint ELSE 0 END
    WHERE
        run = $1
        AND NOT cancel
        AND state IN ('approving', 'pending', 'sending', 'sent')
    RETURNING key, digest, state, pool
),

closed AS (
    UPDATE tool_approvals AS a SET state = 'cancelled'
    FROM wished
    WHERE a.key = wished.key AND a.state = 'open'
),

told AS (
    INSERT INTO tool_audit (at_ms, key, event, actor, digest, detail)
    SELECT
        $2::bigint, key, 'cancelled', '', digest, jsonb_build_object('state', state)
    FROM wished
)

SELECT key, pool, state IN ('sending', 'sent') AS given FROM wished
ORDER BY key
