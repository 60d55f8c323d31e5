-- Runs as the service API shows them, newest first, a page at a time.
SELECT
    id,
    agent,
    channel,
    trigger_id,
    requester,
    status,
    outcome,
    reason,
    attempt,
    epoch,
    crashes,
    owner,
    (extract(EPOCH FROM created_at) * 1000)::bigint AS created_ms,
    (extract(EPOCH FROM started_at) * 1000)::bigint AS started_ms,
    (extract(EPOCH FROM ended_at) * 1000)::bigint AS ended_ms,
    retry_of::text AS retry_of
FROM agent_runs
WHERE
    ($1 = '' OR channel = $1)
    AND ($2 = '' OR status = $2)
    AND ($3 = '' OR agent = $3)
    AND (
        $4::uuid IS NULL
        OR (created_at, id) < (
            SELECT
                b.created_at,
                b.id
            FROM agent_runs AS b
            WHERE b.id = $4::uuid
        )
    )
ORDER BY created_at DESC, id DESC
LIMIT $5
