-- What the web view reads: failed requests by code, samples of a run, and what people noted on rows.

-- As small as what failed: a page of failures, and their number by code, never scan a run.
CREATE INDEX request_failed ON request (run_id, code) WHERE state = 'failed';

CREATE TABLE pulse (
  -- A sample of a run, every second while a process works on it; of long runs a part is kept.
  run_id INTEGER NOT NULL REFERENCES run,
  number INTEGER NOT NULL,              -- periods of one second since 1970-01-01
  at REAL NOT NULL,
  settled INTEGER NOT NULL,             -- requests that have ended, failed ones included
  failed INTEGER NOT NULL,
  in_flight INTEGER NOT NULL,           -- requests that are open at the provider or in doubt
  attempts INTEGER NOT NULL,
  polls INTEGER NOT NULL,
  rate_limited INTEGER NOT NULL,        -- replies 429
  cost_pusd INTEGER NOT NULL,           -- what is known
  PRIMARY KEY (run_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE flag (
  -- What a person noted on a row.
  request_id INTEGER PRIMARY KEY REFERENCES request,
  run_id INTEGER NOT NULL REFERENCES run,
  flag TEXT NOT NULL,
  note TEXT NOT NULL,
  flagged_at REAL NOT NULL
) STRICT;

CREATE INDEX flag_run ON flag (run_id, flag);
