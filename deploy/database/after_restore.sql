-- Run once, before any service starts, after a database was put back to an earlier state.
--
-- What was committed after the backup is gone, and its offsets will be given again. A new
-- life of every log tells gateways and clients that what they hold cannot be continued:
-- they load their rooms anew instead of taking new entries for ones they have seen.
-- Leases and presence need nothing: they lapse by themselves.
BEGIN;
UPDATE lineage SET epoch = left(md5(gen_random_uuid()::text), 12), since = now();
UPDATE channels SET epoch = (SELECT epoch FROM lineage);
COMMIT;
