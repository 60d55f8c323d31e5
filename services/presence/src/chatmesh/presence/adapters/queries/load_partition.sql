-- What is known of one partition besides its rows, and the database's time.
SELECT
    p.number,
    (extract(EPOCH FROM clock_timestamp()) * 1000)::bigint AS now_ms,
    coalesce(s.origins, '{}') AS origins,
    coalesce(s.sequences, '{}') AS sequences
FROM presence_partitions AS p
LEFT JOIN LATERAL (
    SELECT
        array_agg(origin ORDER BY origin) AS origins,
        array_agg(sequence ORDER BY origin) AS sequences
    FROM presence_sequences
    WHERE partition = p.partition
) AS s ON true
WHERE p.partition = $1
