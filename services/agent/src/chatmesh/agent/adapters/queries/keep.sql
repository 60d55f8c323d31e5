-- Add to a journal, if the run is still this epoch's; and let a steered message be part
-- of it from the same moment on. The same again changes nothing.
WITH mine AS MATERIALIZED (
    SELECT id
    FROM agent_runs
    WHERE id = $1 AND epoch = $2 AND status = 'running'
    FOR UPDATE
),

added AS (
    INSERT INTO agent_journal (run, place, kind, body)
    SELECT
        id,
        $3,
        $4,
        $5
    FROM mine
    ON CONFLICT (run, place) DO NOTHING
),

steered AS (
    UPDATE agent_runs AS s
    SET status = 'ended', outcome = 'steered', ended_at = now()
    FROM mine
    WHERE s.id = $6::uuid AND s.into_run = mine.id AND s.status = 'steering'
)

SELECT id FROM mine
