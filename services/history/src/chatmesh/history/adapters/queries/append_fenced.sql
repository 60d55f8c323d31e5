-- Commit a batch as `append` does, some of whose inputs name a fence and an epoch: those
-- with a lower epoch than their channel has seen of that fence are not stored, and come
-- back with offset 0. Everything else is as there; a batch without fences goes that way,
-- so that it pays nothing for this. An id that is known is answered whatever its epoch.
WITH input AS MATERIALIZED (
    SELECT
        i.n,
        i.channel,
        i.id,
        i.digest,
        i.author,
        i.data,
        i.info,
        i.tags,
        i.fence,
        i.fence_epoch,
        l."offset" AS had
    FROM
        unnest(
            $1::text [],
            $2::text [],
            $3::bytea [],
            $4::text [],
            $5::bytea [],
            $6::bytea [],
            $7::text [],
            $8::text [],
            $9::bigint []
        ) WITH ORDINALITY AS i (
            channel, id, digest, author, data, info, tags, fence, fence_epoch, n
        )
    LEFT JOIN log AS l ON i.channel = l.channel AND i.id = l.id
),

-- Raised before anything is stored, and held until the end: whoever comes later waits
-- here and sees it.
fenced AS (
    INSERT INTO log_fences AS f (channel, fence, epoch)
    SELECT
        channel,
        fence,
        max(fence_epoch)
    FROM input
    WHERE fence IS NOT NULL
    GROUP BY channel, fence
    ORDER BY channel, fence
    ON CONFLICT (channel, fence) DO UPDATE
    SET epoch = greatest(f.epoch, excluded.epoch), at = now()
    RETURNING f.channel, f.fence, f.epoch
),

-- A few days later nobody is left who could be late.
forgotten AS (
    DELETE FROM log_fences
    WHERE
        ctid = any(array(
            SELECT o.ctid
            FROM log_fences AS o
            WHERE
                o.at < now() - interval '7 days'
                AND NOT EXISTS (
                    SELECT 1
                    FROM input AS i
                    WHERE i.channel = o.channel AND i.fence = o.fence
                )
            ORDER BY o.at
            LIMIT 100
            FOR UPDATE SKIP LOCKED
        ))
),

late AS MATERIALIZED (
    SELECT i.n
    FROM input AS i
    INNER JOIN fenced AS f ON i.channel = f.channel AND i.fence = f.fence
    WHERE i.had IS NULL AND i.fence_epoch < f.epoch
),

fresh AS MATERIALIZED (
    SELECT
        i.*,
        row_number() OVER (PARTITION BY i.channel ORDER BY i.n) AS place
    FROM input AS i
    WHERE i.had IS NULL AND NOT EXISTS (SELECT 1 FROM late AS l WHERE l.n = i.n)
),
