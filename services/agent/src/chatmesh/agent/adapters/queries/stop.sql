-- Ask for the end of open runs of a channel: those named, or an agent's, or all. Those
-- that wait end here; messages that were to go into a stopped run go nowhere.
WITH stopped AS (
    UPDATE agent_runs AS r
    SET
        stop_by = $1,
        stop_reason = $2,
        status = CASE WHEN r.status = 'queued' THEN 'ending' ELSE r.status END,
        outcome = CASE WHEN r.status = 'queued' THEN 'cancelled' ELSE r.outcome END
    WHERE
        r.channel = $3
        AND r.status IN ('queued', 'running')
        AND (cardinality($4::uuid []) = 0 OR r.id = any($4::uuid []))
        AND ($5 = '' OR r.agent = $5)
        AND ($6::text IS NULL OR r.requester = $6::text)
    RETURNING r.id
),

dropped AS (
    UPDATE agent_runs AS s
    SET status = 'ended', outcome = 'cancelled', ended_at = now()
    FROM stopped
    WHERE s.into_run = stopped.id AND s.status = 'steering'
)

SELECT id FROM stopped
