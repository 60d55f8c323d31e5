-- How many are in each of some channels, in the order asked.
SELECT
    coalesce(c.num_clients, 0) AS num_clients,
    coalesce(c.num_users, 0) AS num_users
FROM unnest($1::text []) WITH ORDINALITY AS r (channel, n)
LEFT JOIN presence_channels AS c ON c.channel = r.channel
ORDER BY r.n
