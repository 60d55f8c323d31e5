-- Calls of tools: what was asked, what became of it. A key is one call for ever.
CREATE TABLE tool_calls (
    key text COLLATE "C" PRIMARY KEY,
    run text NOT NULL,
    room text NOT NULL,
    agent text NOT NULL,
    -- The person at the root of the run.
    requester text NOT NULL,
    tool text NOT NULL,
    pool text NOT NULL,
    read_only boolean NOT NULL,
    timeout_ms bigint NOT NULL,
    -- Of the arguments as the agent asked; `digest` and `arguments` are of what runs.
    asked_digest text NOT NULL,
    arguments text NOT NULL,
    digest text NOT NULL,
    parameters text NOT NULL,
    result_schema text NOT NULL,
    state text NOT NULL CHECK (state IN (
        'approving', 'pending', 'sending', 'sent',
        'done', 'failed', 'unknown', 'denied', 'timeout', 'cancelled'
    )),
    -- Of the run's owner that touched it last.
    epoch bigint NOT NULL,
    attempt integer NOT NULL DEFAULT 0,
    not_before_ms bigint NOT NULL DEFAULT 0,
    deadline_ms bigint NOT NULL,
    cancel boolean NOT NULL DEFAULT false,
    content text NOT NULL DEFAULT '',
    reference text NOT NULL DEFAULT '',
    size_bytes bigint NOT NULL DEFAULT 0,
    worker text NOT NULL DEFAULT '',
    created_ms bigint NOT NULL,
    settled_ms bigint NOT NULL DEFAULT 0
);

CREATE INDEX tool_calls_open ON tool_calls (deadline_ms)
WHERE state IN ('approving', 'pending', 'sending', 'sent');
CREATE INDEX tool_calls_by_run ON tool_calls (run);

-- Results too large to be passed about.
CREATE TABLE tool_results (
    reference text COLLATE "C" PRIMARY KEY,
    content text NOT NULL,
    created_ms bigint NOT NULL
);

CREATE INDEX tool_results_by_age ON tool_results (created_ms);

-- Questions to people. One winner: an answer changes an open row or nothing.
CREATE TABLE tool_approvals (
    id text COLLATE "C" PRIMARY KEY,
    key text COLLATE "C" NOT NULL UNIQUE REFERENCES tool_calls (key),
    roles text [] NOT NULL,
    deadline_ms bigint NOT NULL,
    state text NOT NULL CHECK (state IN (
        'open', 'approved', 'denied', 'timeout', 'cancelled'
    )),
    arguments text NOT NULL,
    digest text NOT NULL,
    answered_by text NOT NULL DEFAULT '',
    answered_role text NOT NULL DEFAULT '',
    answered_client text NOT NULL DEFAULT '',
    answered_ms bigint NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT '',
    final_arguments text NOT NULL DEFAULT '',
    final_digest text NOT NULL DEFAULT ''
);

CREATE INDEX tool_approvals_open ON tool_approvals (deadline_ms)
WHERE state = 'open';

-- Who asked, who approved, which arguments, what came back: only ever added to.
CREATE TABLE tool_audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms bigint NOT NULL,
    key text COLLATE "C" NOT NULL,
    event text NOT NULL,
    -- A user, an agent or a worker.
    actor text NOT NULL,
    -- Of the arguments it is about.
    digest text NOT NULL,
    detail jsonb NOT NULL
);

CREATE INDEX tool_audit_by_key ON tool_audit (key, id);

CREATE FUNCTION tool_audit_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the record of tool calls is only ever added to';
END
$$;

CREATE TRIGGER tool_audit_is_kept BEFORE UPDATE OR DELETE OR TRUNCATE ON tool_audit
FOR EACH STATEMENT EXECUTE FUNCTION tool_audit_is_kept();
