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

UPDATE agent_runs AS r
SET
    owner = $1::text,
    lease_until = now() + $2::float8 * interval '1 second',
    epoch = r.epoch + 1,
    attempt = r.attempt + (r.status = 'running')::integer,
    crashes = r.crashes + (r.status = 'running' AND r.owner IS NOT NULL)::integer,
    started_at = coalesce(r.started_at, now())
FROM gone
WHERE r.id = gone.id
RETURNING
    r.id,
    r.agent,
    r.channel,
    r.trigger_id,
    r.trigger_offset,
    r.trigger_text,
    r.requester,
    r.traceparent,
    r.status,
    r.epoch,
    r.attempt,
    r.crashes,
    r.seq,
    r.stop_by,
    r.stop_reason,
    r.answer,
    r.outcome,
    r.reason,
    r.retry_of,
    r.carried,
    (extract(EPOCH FROM coalesce(r.started_at, now())) * 1000)::bigint AS started_ms,
    (extract(EPOCH FROM now()) * 1000)::bigint AS now_ms
