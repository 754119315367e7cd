-- Batches at the provider: each is a vehicle for many attempts, found again by the mark in its metadata.

CREATE TABLE provider_batch (
  id INTEGER PRIMARY KEY,
  run_id INTEGER NOT NULL,
  stage TEXT NOT NULL,
  model TEXT NOT NULL,
  -- Its mark in the metadata, on disk before it is created.
  uid TEXT NOT NULL UNIQUE,
  -- The provider's ids: of the uploaded file, and of the batch.
  input_file TEXT,
  batch_id TEXT,
  -- The provider's word, verbatim.
  status TEXT,
  lines INTEGER NOT NULL CHECK (lines > 0),
  -- What it takes of the limit on enqueued tokens.
  tokens INTEGER NOT NULL,
  made_at REAL NOT NULL,
  -- When its creation was begun: from here on it may exist.
  asked_at REAL,
  submitted_at REAL,
  ended_at REAL,
  collected_at REAL,
  file_deleted_at REAL
) STRICT;

CREATE INDEX provider_batch_open ON provider_batch (run_id) WHERE collected_at IS NULL OR file_deleted_at IS NULL;

-- The batch that an attempt is a line of; its line carries the attempt's id.
ALTER TABLE attempt ADD COLUMN provider_batch INTEGER;

CREATE INDEX attempt_by_batch ON attempt (provider_batch) WHERE provider_batch IS NOT NULL;
