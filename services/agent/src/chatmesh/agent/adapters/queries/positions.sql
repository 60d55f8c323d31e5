-- Record what waiting runs are told of their position; only where it has changed.
UPDATE agent_runs AS r
SET position = p.position, seq = r.seq + 1
FROM unnest($1::uuid [], $2::integer []) AS p (id, position)
WHERE r.id = p.id AND r.status = 'queued' AND r.position <> p.position
RETURNING r.id, r.position, r.seq
