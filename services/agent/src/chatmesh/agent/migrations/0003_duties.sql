-- What one replica does for all of them: whoever has the duty, for as long as its lease lasts.
CREATE TABLE agent_duties (
    duty text COLLATE "C" PRIMARY KEY,
    owner text COLLATE "C" NOT NULL,
    lease_until timestamptz NOT NULL
);
