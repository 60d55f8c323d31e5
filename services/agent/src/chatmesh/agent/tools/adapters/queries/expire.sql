-- End approvals that nobody answered in time, and their calls.
WITH over AS (
    UPDATE tool_approvals SET state = 'timeout'
    WHERE state = 'open' AND deadline_ms <= $1
    RETURNING id, key, digest
),

ended AS (
    UPDATE tool_calls AS c
    SET state = 'timeout', content = 'nobody answered in time', settled_ms = $1
    FROM over
    WHERE c.key = over.key AND c.state = 'approving'
)

INSERT INTO tool_audit (at_ms, key, event, actor, digest, detail)
SELECT $1, key, 'approval timeout', '', digest, jsonb_build_object('approval', id)
FROM over
RETURNING key
