-- Give partitions back.
UPDATE service_partitions
SET owner = NULL, since = now()
WHERE owner = $1 AND partition = any($2::integer [])
