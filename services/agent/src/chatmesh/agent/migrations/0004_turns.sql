-- Who was served lately is asked with every look at those who wait.
CREATE INDEX agent_runs_by_start ON agent_runs (started_at)
WHERE started_at IS NOT NULL;
