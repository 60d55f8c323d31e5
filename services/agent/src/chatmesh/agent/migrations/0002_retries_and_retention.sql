-- A failed run may be done again, as a run of its own: it goes on from what the one before
-- had finished, which is the first `carried` entries of its journal.
ALTER TABLE agent_runs ADD COLUMN retry_of uuid;
ALTER TABLE agent_runs ADD COLUMN carried integer NOT NULL DEFAULT 0;

-- What an ended run read and wrote is dropped after a while; that it was, never.
ALTER TABLE agent_runs ADD COLUMN forgotten boolean NOT NULL DEFAULT false;
CREATE INDEX agent_runs_to_forget ON agent_runs (ended_at)
WHERE status = 'ended' AND NOT forgotten;
