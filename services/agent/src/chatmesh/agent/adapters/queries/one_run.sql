-- One run as the service API shows it.
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
WHERE id = $1
