-- The live runs of a channel, with what was last stored of them.
SELECT
    r.id,
    r.agent,
    r.trigger_id,
    r.requester,
    r.status,
    r.attempt,
    r.epoch,
    r.seq,
    r.position,
    c.body,
    (extract(EPOCH FROM coalesce(r.started_at, r.created_at)) * 1000)::bigint
        AS started_ms
FROM agent_runs AS r
LEFT JOIN agent_checkpoints AS c ON r.id = c.run
WHERE r.channel = $1 AND r.status IN ('queued', 'running', 'ending')
ORDER BY r.created_at, r.id
LIMIT $2
