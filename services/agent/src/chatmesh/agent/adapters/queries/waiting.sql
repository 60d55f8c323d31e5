-- Runs that wait: of every room some before more of one, and in a room of every person.
SELECT
    id,
    agent,
    channel,
    requester,
    (extract(EPOCH FROM created_at) * 1000)::bigint AS created_ms,
    position
FROM (
    SELECT
        *,
        row_number() OVER (
            PARTITION BY channel ORDER BY turn, created_at, id
        ) AS place
    FROM (
        SELECT
            *,
            row_number() OVER (
                PARTITION BY channel, requester ORDER BY created_at, id
            ) AS turn
        FROM agent_runs
        WHERE status = 'queued'
    ) AS by_person
) AS by_room
WHERE place <= $2
ORDER BY place, created_at, id
LIMIT $1
