-- Store what is seen of live runs; what an owner says who has lost the run is too late.
INSERT INTO agent_checkpoints AS c (run, channel, epoch, body, at)
SELECT
    r.id,
    r.channel,
    r.epoch,
    i.body,
    now()
FROM unnest($1::uuid [], $2::bigint [], $3::bytea []) AS i (run, epoch, body)
INNER JOIN agent_runs AS r
    ON i.run = r.id AND i.epoch = r.epoch AND r.status IN ('running', 'ending')
ORDER BY r.id
ON CONFLICT (run) DO UPDATE
    SET epoch = excluded.epoch, body = excluded.body, at = excluded.at
    WHERE c.epoch <= excluded.epoch
