-- The second half of `adopt` and `reap`: make the runs that they found (`gone`) ours.
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
