-- A page of the people in a channel, by person: each with the connection that was
-- announced, how many there are, and the status. The infos are those of a connection that
-- is here: those of the announced one may be from before it went.
SELECT
    p.person,
    p.user_id,
    coalesce(f.client, p.clients[1]) AS client,
    p.conn_infos[1] AS conn_info,
    p.chan_infos[1] AS chan_info,
    p.connections,
    p.lost,
    coalesce(u.status_text, '') AS status_text,
    coalesce(u.do_not_disturb, false) AS do_not_disturb
FROM (
    SELECT
        person,
        user_id,
        array_agg(client ORDER BY announce IS FALSE, joined_us) AS clients,
        array_agg(conn_info ORDER BY lost_until_ms > 0, joined_us) AS conn_infos,
        array_agg(chan_info ORDER BY lost_until_ms > 0, joined_us) AS chan_infos,
        count(*)::integer AS connections,
        bool_and(lost_until_ms > 0) AS lost
    FROM presence_connections
    -- The last of it is always so; it lets the index of people be used.
    WHERE channel = $1 AND person > $2 AND person <> ''
    GROUP BY person, user_id
    ORDER BY person
    LIMIT $3
) AS p
LEFT JOIN presence_faces AS f ON f.channel = $1 AND f.user_id = p.user_id
LEFT JOIN presence_users AS u ON u.user_id = p.user_id
ORDER BY p.person
