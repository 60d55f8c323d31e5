-- Take runs whose owner is gone or has let go, oldest first. An owner that went without a
-- word has crashed; one that let go has not. Ends that wait to be told are no attempt.
-- What only has to be brought to its end, because somebody stopped it or because it was
-- lost too often, is taken also by whoever can perform nothing more ($4).
-- Runs of agents that this replica does not know ($6) are left for $7 seconds to those
-- that may: after a change of the agents file not all have read it yet.
WITH gone AS (
    SELECT id
    FROM agent_runs
    WHERE
        status IN ('running', 'ending')
        AND (owner IS NULL OR lease_until < now())
        AND (
            status = 'ending'
            OR agent = any($6::text [])
            OR coalesce(lease_until, created_at)
            < now() - $7::float8 * interval '1 second'
        )
        AND (
            $4::boolean
            OR status = 'ending'
            OR stop_by IS NOT NULL
            OR crashes + (owner IS NOT NULL)::integer >= $5::integer
        )
    ORDER BY created_at
    LIMIT $3::integer
    FOR UPDATE SKIP LOCKED
)
