-- Record that the room has been told. Steered messages that came too late for the run
-- wait by themselves from now on.
WITH mine AS (
    UPDATE agent_runs
    SET status = 'ended', ended_at = now(), owner = NULL, lease_until = NULL
    WHERE id = $1 AND epoch = $2 AND status = 'ending'
    RETURNING id
),

gone AS (
    DELETE FROM agent_checkpoints AS c
    USING mine
    WHERE c.run = mine.id
),

released AS (
    UPDATE agent_runs AS s
    SET status = 'queued', into_run = NULL
    FROM mine
    WHERE s.into_run = mine.id AND s.status = 'steering'
    RETURNING s.id
)

SELECT
    mine.id,
    ARRAY(SELECT released.id FROM released) AS released
FROM mine
