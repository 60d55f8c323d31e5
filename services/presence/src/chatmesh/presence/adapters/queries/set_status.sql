-- A user's status is now this.
INSERT INTO presence_users (user_id, status_text, do_not_disturb)
VALUES ($1, $2, $3)
ON CONFLICT (user_id) DO UPDATE
SET status_text = excluded.status_text, do_not_disturb = excluded.do_not_disturb
