-- Take partitions that are free or held by the dead. A holder whose lease ran out while my
-- own membership was unbroken is dead; after the database was away for everybody's
-- lease, a holder gets one more lease time to come back.
UPDATE service_partitions AS p
SET owner = $1, since = now()
FROM service_replicas AS me
WHERE
    me.id = $1
    AND me.lease_until >= now()
    AND p.partition = any($2::integer [])
    AND (
        p.owner IS NULL
        OR p.owner = $1
        OR NOT EXISTS (
            SELECT FROM service_replicas AS holder
            WHERE
                holder.id = p.owner
                AND (
                    holder.lease_until >= now()
                    OR (
                        holder.lease_until < me.joined_at
                        AND now() - me.joined_at < $3::float8 * interval '1 second'
                    )
                )
        )
    )
RETURNING p.partition
