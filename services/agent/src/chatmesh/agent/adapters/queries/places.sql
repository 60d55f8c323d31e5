-- Where agents are asked, or were of late: newest first, and what becomes of it there.
SELECT
    agent,
    channel,
    bool_or(status = 'running') AS performed,
    coalesce(
        min(position) FILTER (WHERE status = 'queued' AND position > 0), 0
    ) AS position,
    bool_or(status = 'queued') AS queued
FROM (
    SELECT
        agent,
        channel,
        status,
        position,
        created_at
    FROM agent_runs
    WHERE status IN ('queued', 'running', 'ending')
    UNION ALL
    (
        SELECT
            agent,
            channel,
            status,
            position,
            created_at
        FROM agent_runs
        WHERE created_at > now() - $1::float8 * interval '1 second'
        ORDER BY created_at DESC
        LIMIT $2::integer
    )
) AS asked
GROUP BY agent, channel
ORDER BY max(created_at) DESC
LIMIT $2::integer
