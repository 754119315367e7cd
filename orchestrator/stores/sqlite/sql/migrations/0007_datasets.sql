-- Datasets: for each key the answer that holds, whichever run received it. A run of a job with increments compares its
-- rows with the entries and asks only what changed.

CREATE TABLE dataset (
  -- The name of what a job keeps across runs; those of the sandbox are apart.
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  simulated INTEGER NOT NULL CHECK (simulated = 0 OR simulated = 1),
  UNIQUE (name, simulated)
) STRICT;

CREATE TABLE entry (
  -- One row of a dataset. Its answer stays with the request that received it.
  id INTEGER PRIMARY KEY,
  dataset_id INTEGER NOT NULL REFERENCES dataset,
  key TEXT NOT NULL,
  row_hash BLOB NOT NULL,               -- of the columns that the request uses
  stage_hash BLOB NOT NULL,             -- of all else that decides the request
  request_hash BLOB,                    -- of the request itself; NULL: requests of this job cannot be compared
  request_id INTEGER NOT NULL,          -- the latest request of the row
  answered_at REAL,                     -- NULL: the row has no answer that holds
  failed_nights INTEGER NOT NULL DEFAULT 0 CHECK (failed_nights >= 0),
  removed_at REAL,                      -- when the row was missing from a complete input
  UNIQUE (dataset_id, key)
) STRICT;

CREATE TABLE night (
  -- A run that adds to a dataset.
  run_id INTEGER PRIMARY KEY REFERENCES run,
  dataset_id INTEGER NOT NULL REFERENCES dataset,
  -- 1: all its answers are in the dataset.
  is_closed INTEGER NOT NULL DEFAULT 0 CHECK (is_closed = 0 OR is_closed = 1),
  changes TEXT CHECK (changes IS NULL OR json_valid(changes))  -- counts by change; NULL until the input was read
) STRICT;

CREATE INDEX night_dataset ON night (dataset_id, run_id);

CREATE TABLE noted_change (
  -- Why a run asks a row, and what; 'removed' rows have no hashes.
  run_id INTEGER NOT NULL REFERENCES run,
  key TEXT NOT NULL,
  change TEXT NOT NULL,
  row_hash BLOB,
  stage_hash BLOB,
  request_hash BLOB,
  PRIMARY KEY (run_id, key)
) STRICT, WITHOUT ROWID;

CREATE VIEW dataset_rows AS
  -- One line per row of a dataset, with the answer that holds. Times are UTC.
  SELECT
    dataset.name AS dataset, dataset.simulated, entry.key, run.name AS run, request.state, result.output_text,
    request.code, request.message, attempt.response_id, attempt.model,
    datetime(entry.answered_at, 'unixepoch') AS answered, entry.failed_nights,
    datetime(entry.removed_at, 'unixepoch') AS removed
  FROM entry
  JOIN dataset ON dataset.id = entry.dataset_id
  JOIN request ON request.id = entry.request_id
  JOIN run ON run.id = request.run_id
  LEFT JOIN attempt ON attempt.id = coalesce(request.answered_by, request.id * 1000000 + request.number)
  LEFT JOIN result ON result.attempt_id = attempt.id;
