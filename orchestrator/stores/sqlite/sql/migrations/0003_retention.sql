-- What runs keep and what was deleted, uploaded files, and the events of streams.

CREATE TABLE retention (
  -- What a run keeps, according to its latest execution, and what was removed here.
  run_id INTEGER PRIMARY KEY REFERENCES run,
  provider TEXT NOT NULL,               -- where its responses are: an id means nothing to another provider
  policy TEXT NOT NULL CHECK (json_valid(policy)),  -- the job's section "retention"
  exported_at REAL,                     -- when all of its results were last written to a file
  inputs_dropped INTEGER NOT NULL DEFAULT 0,   -- rows whose data was removed from input_row
  outputs_dropped INTEGER NOT NULL DEFAULT 0   -- results whose text and body were removed
) STRICT;

CREATE TABLE deleted_copy (
  -- What the provider no longer has: deleted there, and then not found.
  kind TEXT NOT NULL CHECK (kind = 'response' OR kind = 'conversation' OR kind = 'file'),
  provider_id TEXT NOT NULL,
  run_id INTEGER NOT NULL REFERENCES run,
  -- 0: it was not known there when we came to delete it: expired, or deleted by a call whose reply was lost.
  was_there INTEGER NOT NULL CHECK (was_there = 0 OR was_there = 1),
  deleted_at REAL NOT NULL,
  PRIMARY KEY (kind, provider_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX deleted_copy_run ON deleted_copy (run_id, kind, was_there);

CREATE TABLE upload (
  -- A file that was uploaded for a template's filter "upload": once for each content, for all runs.
  file_id TEXT PRIMARY KEY,             -- the provider's
  provider TEXT NOT NULL,
  sha256 BLOB NOT NULL CHECK (length(sha256) = 32),
  name TEXT NOT NULL,
  bytes INTEGER NOT NULL,
  uploaded_at REAL NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX upload_content ON upload (provider, sha256);

CREATE TABLE upload_use (
  -- The runs that sent a file's id: it is deleted with the last of them.
  file_id TEXT NOT NULL REFERENCES upload,
  run_id INTEGER NOT NULL REFERENCES run,
  PRIMARY KEY (file_id, run_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX upload_use_run ON upload_use (run_id);

CREATE TABLE progress_event (
  -- The events of a response's stream, without its pieces of text.
  attempt_id INTEGER NOT NULL REFERENCES attempt,
  sequence INTEGER NOT NULL,            -- the provider's sequence_number
  type TEXT NOT NULL,                   -- the provider's word, such as response.web_search_call.searching
  item TEXT,                            -- the type of the output item that it is about
  at REAL NOT NULL,
  PRIMARY KEY (attempt_id, sequence)
) STRICT, WITHOUT ROWID;
