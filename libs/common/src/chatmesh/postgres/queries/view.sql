-- Who lives, until when at least, and who holds what.
SELECT
    (
        SELECT coalesce(array_agg(id ORDER BY id), '{}')
        FROM service_replicas
        WHERE lease_until >= now()
    ) AS replicas,
    (
        SELECT
            coalesce(
                array_agg(extract(EPOCH FROM lease_until)::float8 ORDER BY id), '{}'
            )
        FROM service_replicas
        WHERE lease_until >= now()
    ) AS lease_ends,
    array_agg(partition ORDER BY partition) AS partitions,
    array_agg(owner ORDER BY partition) AS owners
FROM service_partitions
