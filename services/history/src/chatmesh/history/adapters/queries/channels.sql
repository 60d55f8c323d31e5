-- A page of the channels whose names begin with a prefix, in name order. Names are
-- printable ASCII, so DEL ends the range of a prefix.
SELECT channel, epoch, top, floor
FROM channels
WHERE
    channel > $1
    AND channel >= $2
    AND channel < $2 || E'\x7f'
ORDER BY channel
LIMIT $3
