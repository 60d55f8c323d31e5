-- A page of the channels that somebody is in, in name order. Names are printable ASCII,
-- so DEL ends the range of a prefix.
SELECT channel, num_clients, num_users
FROM presence_channels
WHERE
    channel > $1
    AND channel >= $2
    AND channel < $2 || E'\x7f'
ORDER BY channel
LIMIT $3
