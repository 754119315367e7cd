-- Notices of jobs that have no run yet: one that is late, and one whose file cannot be used.

CREATE TABLE job_notice (
  -- The outbox: one notice for one receiver. The payload holds no prompt, no answer and no key of a row.
  message_id TEXT PRIMARY KEY,          -- sent with each try, so that the receiver can drop repetitions
  run_id INTEGER REFERENCES run,        -- NULL: it is about a job
  event TEXT NOT NULL,
  cause TEXT NOT NULL,                  -- why the run ended so
  receiver TEXT NOT NULL,               -- a hash of the rule in the config
  payload BLOB NOT NULL,                -- JSON
  created_at REAL NOT NULL,
  taken_until REAL NOT NULL DEFAULT 0,  -- until then one process delivers it
  tries INTEGER NOT NULL DEFAULT 0 CHECK (tries >= 0),
  error TEXT,                           -- why the latest try failed
  delivered_at REAL
) STRICT, WITHOUT ROWID;

INSERT INTO job_notice SELECT * FROM notice;
DROP TABLE notice;
ALTER TABLE job_notice RENAME TO notice;

CREATE INDEX notice_run ON notice (run_id, event);
CREATE INDEX notice_pending ON notice (receiver) WHERE delivered_at IS NULL;
