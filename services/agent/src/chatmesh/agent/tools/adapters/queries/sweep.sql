-- End calls that nobody watches: their deadline is $2 milliseconds over.
WITH ended AS (
    UPDATE tool_calls
    SET
        state = CASE
            WHEN state = 'pending' OR read_only THEN 'timeout' ELSE 'unknown'
        END,
        content = CASE
            WHEN state = 'pending' THEN 'not started before its deadline'
            WHEN read_only THEN 'no result before its deadline'
            ELSE 'no result before its deadline; it may or may not have taken effect'
        END,
        settled_ms = $1
    WHERE state IN ('pending', 'sending', 'sent') AND deadline_ms < $1 - $2::bigint
    RETURNING key, digest, state
),

forgotten AS (
    DELETE FROM tool_results WHERE created_ms < $1 - $3::bigint
)

INSERT INTO tool_audit (at_ms, key, event, actor, digest, detail)
SELECT $1, key, 'swept', '', digest, jsonb_build_object('state', state) FROM ended
RETURNING key
