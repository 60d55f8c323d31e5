-- Record one more attempt at a command before it is made.
INSERT INTO history_attempts AS a (channel, id, attempts)
VALUES ($1, $2, 1)
ON CONFLICT (channel, id) DO UPDATE
SET attempts = a.attempts + 1, last_at = now()
RETURNING attempts
