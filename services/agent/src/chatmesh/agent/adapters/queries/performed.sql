-- What is performed just now, by whomever, and whose turn it has been while others waited.
SELECT
    agent,
    channel,
    requester,
    (extract(EPOCH FROM started_at) * 1000)::bigint AS started_ms,
    FALSE AS over
FROM agent_runs
WHERE status = 'running'
UNION ALL
SELECT
    '' AS agent,
    channel,
    requester,
    (extract(EPOCH FROM max(started_at)) * 1000)::bigint AS started_ms,
    TRUE AS over
FROM agent_runs
WHERE
    status IN ('ending', 'ended')
    -- Beyond that a turn is forgotten, so that a long queue does not make looking slow.
    AND started_at >= greatest(
        now() - INTERVAL '10 minutes',
        (SELECT min(queued.created_at) FROM agent_runs AS queued WHERE queued.status = 'queued')
    )
GROUP BY channel, requester
