-- How far work has come that processes take over from each other: commands of whoever
-- was replaced are refused. One row for each piece of work (a run), for some days.
CREATE TABLE log_fences (
    channel text COLLATE "C" NOT NULL,
    fence text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (channel, fence)
);

CREATE INDEX log_fences_by_age ON log_fences (at);
