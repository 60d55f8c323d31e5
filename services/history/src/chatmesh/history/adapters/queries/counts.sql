-- How much there is.
SELECT
    count(*) AS channels,
    coalesce(sum(top - floor), 0)::bigint AS publications,
    coalesce(sum(top), 0)::bigint AS ids
FROM channels
