-- How much there is.
SELECT
    count(*) AS channels,
    coalesce(sum(num_clients), 0)::bigint AS connections,
    (
        SELECT count(DISTINCT person) FROM presence_connections
    ) AS users
FROM presence_channels
