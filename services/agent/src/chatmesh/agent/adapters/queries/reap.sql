-- Take runs that nobody has gone on with for so long, and ends that nobody has told.
WITH gone AS (
    SELECT id
    FROM agent_runs
    WHERE
        status IN ('running', 'ending')
        AND coalesce(lease_until, created_at)
        < now() - $4::float8 * interval '1 second'
    ORDER BY created_at
    LIMIT $3::integer
    FOR UPDATE SKIP LOCKED
)
