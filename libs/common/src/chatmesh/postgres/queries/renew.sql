-- Renew my lease; a lease that had run out starts a new stretch of unbroken membership.
INSERT INTO service_replicas AS r (id, lease_until, joined_at)
VALUES ($1, now() + $2::float8 * interval '1 second', now())
ON CONFLICT (id) DO UPDATE
SET
    lease_until = excluded.lease_until,
    joined_at = CASE WHEN r.lease_until < now() THEN now() ELSE r.joined_at END
