-- The command went through, or is buried.
DELETE FROM history_attempts WHERE channel = $1 AND id = $2
