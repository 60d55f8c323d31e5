-- The users of one partition who were announced with a connection that is gone.
SELECT channel, user_id, client, conn_info, chan_info
FROM presence_faces
WHERE partition = $1
