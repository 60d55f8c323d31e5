-- Drop what runs read and wrote that ended more than $1 seconds ago, $2 runs at most. The
-- rows stay: they say for ever that their messages were answered.
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
)

UPDATE agent_runs AS r
SET forgotten = true, trigger_text = '', answer = NULL
FROM old
WHERE r.id = old.id
RETURNING r.id
