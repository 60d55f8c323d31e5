-- Runs: one row per agent and triggering message, for ever, which is what makes the answer
-- to a message one answer however often the message is delivered.
--
-- queued    waits for its turn
-- steering  is no run of its own: it goes into the running one named by `into_run`
-- running   performed by `owner` as long as the lease lasts, else by whoever takes it
-- ending    how it ends is decided and kept in `answer`; what is left is to tell the room
-- ended     the room has been told
CREATE TABLE agent_runs (
    id uuid PRIMARY KEY,
    agent text COLLATE "C" NOT NULL,
    channel text COLLATE "C" NOT NULL,
    trigger_id text COLLATE "C" NOT NULL,
    trigger_offset bigint NOT NULL,
    trigger_text text NOT NULL,
    requester text COLLATE "C" NOT NULL,
    -- The trace of the triggering message; empty: not traced.
    traceparent text NOT NULL DEFAULT '',
    status text NOT NULL DEFAULT 'queued'
    CHECK (status IN ('queued', 'steering', 'running', 'ending', 'ended')),
    into_run uuid,
    -- Fencing: grows with every claim, and nothing of a lower one counts any more.
    epoch bigint NOT NULL DEFAULT 0,
    -- What has been shown is said anew with a higher one.
    attempt integer NOT NULL DEFAULT 0,
    -- How often an owner was lost without a word.
    crashes integer NOT NULL DEFAULT 0,
    -- Number of the last event that was certainly told by an owner who has left, and
    -- while the run waits, by whoever told its position.
    seq bigint NOT NULL DEFAULT 0,
    position integer NOT NULL DEFAULT 0,
    owner text,
    lease_until timestamptz,
    stop_by text,
    stop_reason text,
    outcome text
    CHECK (outcome IN ('completed', 'cancelled', 'failed', 'interrupted', 'steered')),
    reason text,
    answer bytea,
    created_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,
    ended_at timestamptz
);

-- One run of an agent at a time in a room, whatever the code believes.
CREATE UNIQUE INDEX agent_runs_one_active ON agent_runs (channel, agent)
WHERE status = 'running';

-- What has to be looked after is short, however long the table is.
CREATE INDEX agent_runs_open ON agent_runs (status, created_at)
WHERE status <> 'ended';
CREATE INDEX agent_runs_steering ON agent_runs (into_run)
WHERE status = 'steering';
CREATE INDEX agent_runs_by_channel ON agent_runs (channel, created_at DESC);
CREATE INDEX agent_runs_by_time ON agent_runs (created_at DESC, id);

-- What has been finished within a run, in order: never done again.
CREATE TABLE agent_journal (
    run uuid NOT NULL REFERENCES agent_runs (id) ON DELETE CASCADE,
    place integer NOT NULL CHECK (place >= 0),
    kind text NOT NULL,
    body bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run, place)
);

-- What a live run looks like just now: for those who come late, and for who takes over.
-- Lost with a crash of the database, and then made again by the next delta.
CREATE UNLOGGED TABLE agent_checkpoints (
    run uuid PRIMARY KEY,
    channel text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    body bytea NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE INDEX agent_checkpoints_by_channel ON agent_checkpoints (channel);

-- Record messages that call agents, each once for ever. What becomes of one while its agent
-- answers another in the same room is a matter of policy. A function, because each of its
-- statements sees what was committed before it, not before the call.
CREATE FUNCTION agent_place(
    runs uuid [],
    agents text [],
    channels text [],
    triggers text [],
    offsets bigint [],
    texts text [],
    requesters text [],
    policies text [],
    too_old boolean [],
    traces text []
) RETURNS TABLE (run uuid, fresh boolean, standing text, target uuid)
LANGUAGE plpgsql
AS $$
DECLARE
    active uuid;
    busy boolean;
BEGIN
    FOR n IN 1 .. cardinality(runs) LOOP
        active := NULL;
        -- Locked: it cannot come to its end between this look and what follows from it.
        SELECT r.id INTO active FROM agent_runs AS r
        WHERE
            r.channel = channels[n] AND r.agent = agents[n]
            AND r.status = 'running'
        FOR SHARE;
        busy := active IS NOT NULL OR EXISTS (
            SELECT FROM agent_runs AS r
            WHERE
                r.channel = channels[n] AND r.agent = agents[n]
                AND r.status = 'queued' AND r.id <> runs[n]
        );
        standing := CASE
            WHEN too_old[n] THEN 'ending'
            WHEN policies[n] = 'reject' AND busy THEN 'ending'
            WHEN policies[n] = 'steer' AND active IS NOT NULL THEN 'steering'
            ELSE 'queued'
        END;
        target := CASE
            WHEN standing = 'steering' THEN active
            WHEN standing = 'queued' AND policies[n] = 'interrupt' THEN active
        END;
        run := runs[n];
        INSERT INTO agent_runs (
            id, agent, channel, trigger_id, trigger_offset, trigger_text, requester,
            traceparent, status, into_run, outcome, reason
        )
        VALUES (
            runs[n], agents[n], channels[n], triggers[n], offsets[n], texts[n],
            requesters[n], traces[n], standing,
            CASE WHEN standing = 'steering' THEN active END,
            CASE
                WHEN too_old[n] THEN 'interrupted'
                WHEN standing = 'ending' THEN 'cancelled'
            END,
            CASE
                WHEN too_old[n] THEN 'the agent was away when this was asked'
                WHEN standing = 'ending' THEN 'the agent is busy in this room'
            END
        )
        ON CONFLICT (id) DO NOTHING;
        fresh := FOUND;
        IF fresh AND standing = 'queued' AND target IS NOT NULL THEN
            UPDATE agent_runs AS r
            SET stop_by = requesters[n], stop_reason = 'interrupt'
            WHERE r.id = active AND r.status = 'running' AND r.stop_by IS NULL;
        END IF;
        IF NOT fresh THEN
            SELECT r.status, r.into_run INTO standing, target
            FROM agent_runs AS r WHERE r.id = runs[n];
        END IF;
        RETURN NEXT;
    END LOOP;
END
$$;

-- Take waiting runs for an owner, in the order given, as far as concurrency allows.
-- Claims take turns: each counts what the one before has taken.
CREATE FUNCTION agent_claim(
    me text,
    lease_s double precision,
    candidates uuid [],
    agents text [],
    concurrency integer [],
    most integer
) RETURNS SETOF agent_runs
LANGUAGE plpgsql
AS $$
DECLARE
    candidate uuid;
    its_agent text;
    its_channel text;
    allowed integer;
    taken integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('agent_claim'));
    FOREACH candidate IN ARRAY candidates LOOP
        EXIT WHEN taken >= most;
        SELECT r.agent, r.channel INTO its_agent, its_channel
        FROM agent_runs AS r
        WHERE r.id = candidate AND r.status = 'queued'
        FOR UPDATE;
        CONTINUE WHEN NOT FOUND;
        allowed := concurrency[array_position(agents, its_agent)];
        CONTINUE WHEN allowed <= (
            SELECT count(*) FROM agent_runs AS r
            WHERE r.agent = its_agent AND r.status = 'running'
        );
        CONTINUE WHEN EXISTS (
            SELECT FROM agent_runs AS r
            WHERE
                r.channel = its_channel AND r.agent = its_agent
                AND r.status = 'running'
        );
        taken := taken + 1;
        RETURN QUERY UPDATE agent_runs AS r
        SET
            status = 'running',
            epoch = r.epoch + 1,
            attempt = r.attempt + 1,
            owner = me,
            lease_until = now() + lease_s * interval '1 second',
            started_at = coalesce(r.started_at, now())
        WHERE r.id = candidate
        RETURNING r.*;
    END LOOP;
END
$$;
