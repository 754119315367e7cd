-- name: open_dataset
INSERT INTO dataset (name, simulated) VALUES (:name, :simulated) ON CONFLICT DO NOTHING;

-- name: dataset_id
SELECT id FROM dataset WHERE name = :name AND simulated = :simulated;

-- name: dataset
SELECT
  dataset.id, dataset.name, dataset.simulated,
  (SELECT count(*) FROM entry WHERE dataset_id = dataset.id AND removed_at IS NULL) AS live,
  (SELECT coalesce(max(id), 0) FROM entry) AS last_entry_id
FROM dataset WHERE :name IS NULL OR (name = :name AND simulated = :simulated)
ORDER BY name, simulated;

-- name: begin_night
INSERT INTO night (run_id, dataset_id, as_of) VALUES (:run_id, :dataset_id, :as_of) ON CONFLICT DO NOTHING;

-- name: count_changes
UPDATE night SET changes = :changes WHERE run_id = :run_id;

-- name: close_night
UPDATE night SET is_closed = 1 WHERE run_id = :run_id;

-- name: night
SELECT run_id, dataset_id, is_closed, changes FROM night WHERE run_id = :run_id;

-- name: nights
SELECT run_id, dataset_id, is_closed, changes FROM night WHERE dataset_id = :dataset_id ORDER BY run_id DESC;

-- name: note_change
INSERT INTO noted_change (run_id, key, change, row_hash, stage_hash, request_hash)
VALUES (:run_id, :key, :change, :row_hash, :stage_hash, :request_hash)
ON CONFLICT (run_id, key) DO UPDATE SET
  change = excluded.change, row_hash = excluded.row_hash, stage_hash = excluded.stage_hash,
  request_hash = excluded.request_hash;

-- name: noted_changes
SELECT key, change FROM noted_change WHERE run_id = :run_id;

-- name: keep_request
UPDATE entry SET row_hash = :row_hash, stage_hash = :stage_hash WHERE id = :entry_id;

-- name: entries
SELECT
  entry.id, entry.key, entry.row_hash, entry.stage_hash, entry.request_hash, entry.answered_at, entry.failed_nights,
  entry.removed_at IS NOT NULL AS removed, entry.as_of
FROM json_each(:keys) AS wanted
-- CROSS keeps the order: each key is found by the index, and the entries are never scanned.
CROSS JOIN entry ON entry.dataset_id = :dataset_id AND entry.key = wanted.value;

-- name: other_stages
SELECT count(*) AS entries FROM entry
WHERE dataset_id = :dataset_id AND stage_hash <> :stage_hash AND answered_at IS NOT NULL AND removed_at IS NULL;

-- name: entries_after
-- The plus lets SQLite walk the ids, rather than sort all entries of the dataset for each page.
SELECT id FROM entry
WHERE id > :after_id AND +dataset_id = :dataset_id AND removed_at IS NULL
ORDER BY id LIMIT :limit;

-- name: planned_keys
SELECT request.key FROM json_each(:keys) AS wanted
CROSS JOIN request ON request.run_id = :run_id AND request.stage = :stage AND request.key = wanted.value;

-- name: noted_bounds
-- The page of keys that is gathered next: its last key, or NULL.
SELECT max(key) FROM (SELECT key FROM noted_change WHERE run_id = :run_id AND key > :after ORDER BY key LIMIT :limit) AS page;

-- name: gather
-- Only a later day, and on it a later request, replaces what is there. One whose outcome was gathered before may have
-- been tried again.
INSERT INTO entry (
  dataset_id, key, row_hash, stage_hash, request_hash, request_id, answered_at, failed_nights, as_of
)
SELECT
  night.dataset_id, noted_change.key, noted_change.row_hash, noted_change.stage_hash, noted_change.request_hash,
  request.id, CASE WHEN request.state = :answered THEN request.settled_at ELSE NULL END, CASE WHEN request.state = :answered THEN 0 ELSE 1 END,
  night.as_of
FROM noted_change
CROSS JOIN night ON night.run_id = noted_change.run_id
CROSS JOIN request ON request.run_id = noted_change.run_id AND request.stage = :stage AND request.key = noted_change.key
WHERE noted_change.run_id = :run_id AND noted_change.key > :after AND noted_change.key <= :last
  AND noted_change.row_hash IS NOT NULL AND (request.state = :answered OR request.state = :failed)
ON CONFLICT (dataset_id, key) DO UPDATE SET
  row_hash = excluded.row_hash, stage_hash = excluded.stage_hash, request_hash = excluded.request_hash,
  request_id = excluded.request_id, answered_at = excluded.answered_at, as_of = excluded.as_of,
  failed_nights = CASE
    WHEN excluded.answered_at IS NOT NULL THEN 0
    WHEN entry.request_id = excluded.request_id THEN entry.failed_nights
    WHEN entry.row_hash = excluded.row_hash AND entry.stage_hash = excluded.stage_hash THEN entry.failed_nights + 1
    ELSE 1
  END,
  removed_at = CASE WHEN entry.request_id = excluded.request_id THEN entry.removed_at ELSE NULL END
WHERE (excluded.as_of, excluded.request_id) > (entry.as_of, entry.request_id)
  OR (excluded.request_id = entry.request_id AND excluded.answered_at IS NOT entry.answered_at);

-- name: note_removed
INSERT INTO noted_change (run_id, key, change)
SELECT :run_id, entry.key, :change FROM json_each(:entry_ids) AS gone CROSS JOIN entry ON entry.id = gone.value
WHERE true
ON CONFLICT (run_id, key) DO NOTHING;

-- name: mark_noted
-- Only for the night of the latest day: rows that came back since must stay.
UPDATE entry SET removed_at = :at
WHERE removed_at IS NULL
  AND dataset_id = (SELECT dataset_id FROM night WHERE run_id = :run_id)
  AND :run_id = (
    SELECT run_id FROM night WHERE night.dataset_id = entry.dataset_id ORDER BY as_of DESC, run_id DESC LIMIT 1
  )
  AND entry.key IN (SELECT key FROM noted_change WHERE run_id = :run_id AND change = :change);

-- name: drop_noted
DELETE FROM entry
WHERE dataset_id = (SELECT dataset_id FROM night WHERE run_id = :run_id)
  AND :run_id = (
    SELECT run_id FROM night WHERE night.dataset_id = entry.dataset_id ORDER BY as_of DESC, run_id DESC LIMIT 1
  )
  AND entry.key IN (SELECT key FROM noted_change WHERE run_id = :run_id AND change = :change);

-- name: restore_entries
UPDATE entry SET removed_at = NULL WHERE id IN (SELECT value FROM json_each(:entry_ids));

-- name: dataset_requests
-- One page of the latest requests of a dataset's rows.
SELECT id, request_id FROM entry
WHERE id > :after_id AND +dataset_id = :dataset_id AND removed_at IS NULL
ORDER BY id LIMIT :limit;
