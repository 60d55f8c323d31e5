-- Take partitions that are free or held by the dead. A holder is dead when somebody was a
-- member at the end of its lease and has renewed after it: the database was there, and
-- the holder was not. Where nobody saw that, the database may have been away for
-- everybody, and holders get some time to come back, counted from my own return.
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
                        now() - me.joined_at < $4::float8 * interval '1 second'
                        AND NOT EXISTS (
                            SELECT FROM service_replicas AS witness
                            WHERE
                                witness.lease_until >= now()
                                AND witness.joined_at <= holder.lease_until
                                AND holder.lease_until
                                < witness.lease_until - $3::float8 * interval '1 second'
                        )
                    )
                )
        )
    )
RETURNING p.partition
