-- A page of the connections in a channel, by client.
SELECT client, user_id, conn_info, chan_info, origin, lost_until_ms
FROM presence_connections
WHERE channel = $1 AND client > $2
ORDER BY client
LIMIT $3
