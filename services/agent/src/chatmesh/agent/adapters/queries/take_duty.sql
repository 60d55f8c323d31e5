-- Take a duty that nobody has, or go on with one's own; nothing while somebody else has it.
INSERT INTO agent_duties AS d (duty, owner, lease_until)
VALUES ($1, $2, now() + $3::float8 * interval '1 second')
ON CONFLICT (duty) DO UPDATE
    SET owner = excluded.owner, lease_until = excluded.lease_until
    WHERE d.owner = excluded.owner OR d.lease_until < now()
RETURNING owner
