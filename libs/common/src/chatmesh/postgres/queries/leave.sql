-- Give everything back and be gone; forget replicas that died long ago.
WITH freed AS (
    UPDATE service_partitions SET owner = NULL, since = now()
    WHERE owner = $1
)

DELETE FROM service_replicas
WHERE id = $1 OR lease_until < now() - interval '1 day'
