-- Take waiting runs in the order given, as far as their agents' concurrency allows.
SELECT
    id,
    agent,
    channel,
    trigger_id,
    trigger_offset,
    trigger_text,
    requester,
    traceparent,
    status,
    epoch,
    attempt,
    crashes,
    seq,
    stop_by,
    stop_reason,
    answer,
    outcome,
    reason,
    retry_of,
    carried,
    (extract(EPOCH FROM coalesce(started_at, now())) * 1000)::bigint AS started_ms,
    (extract(EPOCH FROM now()) * 1000)::bigint AS now_ms
FROM
    agent_claim(
        $1::text,
        $2::float8,
        $3::uuid [],
        $4::text [],
        $5::integer [],
        $6::integer
    )
