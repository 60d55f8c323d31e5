-- End my lease now; what I hold stays written down as mine until somebody takes it.
UPDATE service_replicas
SET lease_until = now() - interval '1 millisecond'
WHERE id = $1 AND lease_until >= now()
