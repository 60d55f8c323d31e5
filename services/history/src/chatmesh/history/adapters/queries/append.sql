-- Commit a batch: find the ids already known, number the others densely per channel,
-- store them, and say for every input where it stands. One statement, so one round trip
-- and one transaction. Inputs have distinct (channel, id) and come in order of arrival.
-- Channel rows are locked in name order: two committers wait for each other, never in
-- a circle. An id that another committer stored meanwhile is a unique violation.
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
        l."offset" AS had
    FROM
        unnest(
            $1::text [],
            $2::text [],
            $3::bytea [],
            $4::text [],
            $5::bytea [],
            $6::bytea [],
            $7::text []
        ) WITH ORDINALITY AS i (channel, id, digest, author, data, info, tags, n)
    LEFT JOIN log AS l ON i.channel = l.channel AND i.id = l.id
),

fresh AS MATERIALIZED (
    SELECT
        *,
        row_number() OVER (PARTITION BY channel ORDER BY n) AS place
    FROM input
    WHERE had IS NULL
),
