-- The connections of one partition, in the order they joined.
SELECT
    channel,
    client,
    user_id,
    conn_info,
    chan_info,
    origin,
    joined_us,
    lost_until_ms,
    announce
FROM presence_connections
WHERE partition = $1
ORDER BY joined_us
