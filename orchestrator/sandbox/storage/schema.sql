-- The sandbox's database: every response that it accepted, with all that was drawn for it, and its counters.

CREATE TABLE IF NOT EXISTS response (
  ordinal INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  created_at REAL NOT NULL,
  starts_at REAL NOT NULL,
  ends_at REAL NOT NULL,
  end_status TEXT NOT NULL,
  usable INTEGER NOT NULL CHECK (usable IN (0, 1)),
  error_code TEXT,
  incomplete_reason TEXT,
  quirk TEXT,
  lost_by TEXT,
  model TEXT NOT NULL,
  tier TEXT NOT NULL,
  "window" TEXT,
  background INTEGER NOT NULL CHECK (background IN (0, 1)),
  stored INTEGER NOT NULL CHECK (stored IN (0, 1)),
  streamed INTEGER NOT NULL CHECK (streamed IN (0, 1)),
  run TEXT,
  key TEXT,
  attempt TEXT,
  idempotency_key TEXT,
  previous_id TEXT,
  conversation_id TEXT,
  in_conversation INTEGER NOT NULL DEFAULT 0 CHECK (in_conversation IN (0, 1)),
  input_tokens INTEGER,
  cached_tokens INTEGER,
  cache_write_tokens INTEGER,
  cache_write_12h_tokens INTEGER,
  output_tokens INTEGER,
  reasoning_tokens INTEGER,
  cancel_asked_at REAL,
  deleted_at REAL,
  delivered TEXT,
  hosted BLOB NOT NULL,
  echo BLOB NOT NULL,
  output BLOB NOT NULL,
  input BLOB NOT NULL,
  CHECK (created_at <= starts_at AND starts_at <= ends_at),
  CHECK (cached_tokens + cache_write_tokens <= input_tokens AND reasoning_tokens <= output_tokens)
) STRICT;

CREATE INDEX IF NOT EXISTS response_by_idempotency_key
  ON response (idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE INDEX IF NOT EXISTS response_pending_in_conversation
  ON response (conversation_id) WHERE conversation_id IS NOT NULL AND in_conversation = 0;

CREATE TABLE IF NOT EXISTS conversation (
  id TEXT PRIMARY KEY,
  created_at REAL NOT NULL,
  metadata BLOB NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS item (
  position INTEGER PRIMARY KEY,
  conversation_id TEXT NOT NULL,
  id TEXT NOT NULL,
  body BLOB NOT NULL
) STRICT;

CREATE INDEX IF NOT EXISTS item_by_conversation ON item (conversation_id, position);

CREATE TABLE IF NOT EXISTS file (
  position INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  created_at REAL NOT NULL,
  filename TEXT NOT NULL,
  purpose TEXT NOT NULL,
  expires_at REAL,
  content BLOB NOT NULL,
  -- When batches know it as their input; when the second part of their output joins the first.
  complete_at REAL NOT NULL,
  late_content BLOB NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS counter (
  name TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The replies to a batch's lines are made when it is created, like responses; which of them count, when it closes.
CREATE TABLE IF NOT EXISTS batch (
  position INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  created_at REAL NOT NULL,
  starts_at REAL NOT NULL,
  ends_at REAL NOT NULL,
  input_file_id TEXT NOT NULL,
  metadata BLOB NOT NULL,
  file_lifetime_s INTEGER,
  errors BLOB NOT NULL,
  cancel_asked_at REAL,
  output_file_id TEXT,
  error_file_id TEXT,
  delivered INTEGER NOT NULL DEFAULT 0 CHECK (delivered IN (0, 1)),
  -- The fault that strikes it; when it ends unfinished; how long a cancel takes; when it is first listed; what of
  -- the limit on enqueued tokens it takes.
  fault TEXT,
  expires_at REAL NOT NULL,
  cancelling_s REAL NOT NULL,
  listed_at REAL NOT NULL,
  late_s REAL NOT NULL,
  model TEXT,
  enqueued_tokens INTEGER NOT NULL,
  CHECK (created_at <= starts_at AND starts_at <= ends_at)
) STRICT;

CREATE TABLE IF NOT EXISTS batch_line (
  batch_id TEXT NOT NULL,
  number INTEGER NOT NULL,
  custom_id TEXT NOT NULL,
  ends_at REAL NOT NULL,
  response_id TEXT,
  status_code INTEGER NOT NULL,
  body BLOB NOT NULL,
  PRIMARY KEY (batch_id, number)
) STRICT, WITHOUT ROWID;
