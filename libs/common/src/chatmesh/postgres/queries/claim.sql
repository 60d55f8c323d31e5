-- Take partitions that are free or held by the dead. A holder is dead when a witness has
-- renewed after the end of its lease who either was a member then, so that the database
-- was there and the holder was not; or has been one for a while since, so that a holder
-- had the time to come back from an outage of the database that nobody outlived.
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
                    OR NOT EXISTS (
                        SELECT FROM service_replicas AS witness
                        WHERE
                            witness.lease_until >= now()
                            AND witness.lease_until - $3::float8 * interval '1 second'
                            > holder.lease_until
                            AND (
                                witness.joined_at <= holder.lease_until
                                OR now() - witness.joined_at
                                >= $4::float8 * interval '1 second'
                            )
                    )
                )
        )
    )
RETURNING p.partition
