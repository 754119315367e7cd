-- Stages: rows that are made of settled rows, and requests that wait for a group of others.

CREATE TABLE stage (
  -- A stage of a run to which no further row will come.
  run_id INTEGER NOT NULL REFERENCES run,
  name TEXT NOT NULL,
  PRIMARY KEY (run_id, name)
) STRICT, WITHOUT ROWID;

-- 0: no later stage reads it; 1: rows of later stages are still to be made of it once it is settled; 2: they are made.
ALTER TABLE request ADD COLUMN to_pass_on INTEGER NOT NULL DEFAULT 0;
-- Of a group: how many of its members are not settled.
ALTER TABLE request ADD COLUMN awaits INTEGER NOT NULL DEFAULT 0;
-- Of a group: how often its rows were asked in parts; NULL: not a group.
ALTER TABLE request ADD COLUMN level INTEGER;
-- Of a group: how many of its rows had failed when it was asked.
ALTER TABLE request ADD COLUMN rows_missing INTEGER NOT NULL DEFAULT 0;

CREATE INDEX request_to_pass_on ON request (run_id, stage) WHERE to_pass_on = 1 AND settled_at IS NOT NULL;
CREATE INDEX request_group ON request (run_id, stage, awaits) WHERE level IS NOT NULL AND state = 'blocked';

CREATE INDEX request_groups ON request (run_id) WHERE level IS NOT NULL;

CREATE TABLE member (
  -- A request whose answer a group waits for.
  group_id INTEGER NOT NULL REFERENCES request,
  request_id INTEGER NOT NULL REFERENCES request,
  PRIMARY KEY (group_id, request_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX member_request ON member (request_id);

DROP INDEX request_fresh;
CREATE INDEX request_fresh ON request (run_id, stage) WHERE state = 'pending' AND not_before = 0;
