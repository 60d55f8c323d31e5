-- Drop what runs read and wrote that ended more than $1 seconds ago, $2 runs at most. The
-- rows stay: they say for ever that their messages were answered, and so do those of the
-- calls they made, without what was asked and what came back.
WITH old AS (
    SELECT id
    FROM agent_runs
    WHERE
        status = 'ended'
        AND NOT forgotten
        AND ended_at < now() - $1::float8 * interval '1 second'
    ORDER BY ended_at
    LIMIT $2::integer
    FOR UPDATE SKIP LOCKED
),

dropped AS (
    DELETE FROM agent_journal AS j
    USING old
    WHERE j.run = old.id
),

called AS (
    UPDATE tool_calls AS c
    SET
        arguments = '{}',
        parameters = '{}',
        result_schema = '',
        content = '',
        reference = ''
    FROM old
    WHERE c.run = old.id::text
    RETURNING c.key
),

asked AS (
    UPDATE tool_approvals AS a
    SET
        arguments = '{}',
        reason = '',
        final_arguments = CASE WHEN a.final_arguments = '' THEN '' ELSE '{}' END
    FROM called
    WHERE a.key = called.key
),

results AS (
    DELETE FROM tool_results AS t
    USING called
    WHERE t.reference = 'result:' || called.key
)

UPDATE agent_runs AS r
SET forgotten = true, trigger_text = '', answer = NULL
FROM old
WHERE r.id = old.id
RETURNING r.id
