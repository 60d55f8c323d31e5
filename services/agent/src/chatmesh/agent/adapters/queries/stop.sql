-- Ask for the end of open runs of a channel: those named, or an agent's, or all. Those
-- that wait end here. Of messages that were to go into a stopped run, those of whoever
-- stops it go nowhere, and nobody has to be told. Those of others are answered by
-- themselves; or, where all is stopped and not that run by name, are told that it was.
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

steered AS (
    UPDATE agent_runs AS s
    SET
        status = CASE
            WHEN s.requester = $1 THEN 'ended'
            WHEN cardinality($4::uuid []) = 0 AND $6::text IS NULL THEN 'ending'
            ELSE 'queued'
        END,
        outcome = CASE
            WHEN
                s.requester = $1
                OR (cardinality($4::uuid []) = 0 AND $6::text IS NULL)
                THEN 'cancelled'
        END,
        stop_by = CASE
            WHEN
                s.requester = $1
                OR (cardinality($4::uuid []) = 0 AND $6::text IS NULL)
                THEN $1
        END,
        ended_at = CASE WHEN s.requester = $1 THEN now() END,
        into_run = CASE WHEN s.requester = $1 THEN s.into_run END
    FROM stopped
    WHERE s.into_run = stopped.id AND s.status = 'steering'
)

SELECT id FROM stopped
