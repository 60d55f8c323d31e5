-- Do an ended run again as a run of its own, with what it had finished; the same again
-- changes nothing. Gives the status of the new run, or nothing if there is no such run to
-- be done again.
WITH old AS (
    SELECT
        agent,
        channel,
        trigger_id,
        trigger_offset,
        trigger_text,
        requester
    FROM agent_runs
    WHERE
        id = $1::uuid
        AND channel = $3::text
        -- Decided is enough: the room may hear of the end a moment before it is noted.
        AND status IN ('ending', 'ended')
        AND outcome IN ('failed', 'interrupted')
        AND NOT forgotten
),

made AS (
    INSERT INTO agent_runs (
        id, agent, channel, trigger_id, trigger_offset, trigger_text, requester,
        traceparent, retry_of, carried
    )
    SELECT
        $2::uuid,
        agent,
        channel,
        trigger_id,
        trigger_offset,
        trigger_text,
        requester,
        $4::text,
        $1::uuid,
        cardinality($5::text [])
    FROM old
    ON CONFLICT (id) DO NOTHING
    RETURNING id, status
),

copied AS (
    INSERT INTO agent_journal (run, place, kind, body)
    SELECT
        made.id,
        e.place - 1,
        e.kind,
        e.body
    FROM made
    CROSS JOIN unnest($5::text [], $6::bytea [])
    WITH ORDINALITY AS e (kind, body, place)
)

SELECT status FROM made
UNION ALL
SELECT r.status
FROM agent_runs AS r
WHERE r.id = $2::uuid AND r.channel = $3::text AND NOT EXISTS (SELECT FROM made)
