-- Retention: what is read and what is written.

-- name: retention
SELECT * FROM retention WHERE run_id = :run_id;

-- name: deleted_counts
SELECT kind, was_there, count(*) AS copies FROM deleted_copy WHERE run_id = :run_id GROUP BY kind, was_there;

-- name: keep_policy
INSERT INTO retention (run_id, provider, policy) VALUES (:run_id, :provider, :policy)
ON CONFLICT (run_id) DO UPDATE SET provider = excluded.provider, policy = excluded.policy;

-- name: note_export
UPDATE retention SET exported_at = :at WHERE run_id = :run_id;

-- name: response_objects
-- The run's bounds keep it from scanning other runs' attempts.
SELECT attempt.id AS place, attempt.response_id AS provider_id, attempt.endpoint
FROM attempt JOIN request ON request.id = attempt.request_id
WHERE attempt.id > max(:after, (SELECT coalesce(first_request_id, 1) * 1000000 FROM run WHERE id = :run_id))
  AND attempt.id < (SELECT (last_request_id + 1) * 1000000 FROM run WHERE id = :run_id)
  AND +request.run_id = :run_id AND attempt.shares_response = 0 AND attempt.ended_at <= :ended_before
  AND attempt.response_id IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM deleted_copy WHERE kind = 'response' AND provider_id = attempt.response_id)
ORDER BY attempt.id LIMIT :limit;

-- name: conversation_objects
SELECT conversation_id AS provider_id, endpoint FROM conversation
WHERE run_id = :run_id
  AND NOT EXISTS (SELECT 1 FROM deleted_copy WHERE kind = 'conversation' AND provider_id = conversation_id)
ORDER BY chain;

-- name: file_objects
-- Without those that another run still needs.
SELECT file_id AS provider_id, (SELECT provider FROM upload WHERE upload.file_id = upload_use.file_id) AS endpoint
FROM upload_use
WHERE run_id = :run_id
  AND NOT EXISTS (SELECT 1 FROM deleted_copy WHERE kind = 'file' AND provider_id = file_id)
  AND NOT EXISTS (
    SELECT 1 FROM upload_use AS other JOIN run ON run.id = other.run_id
    WHERE other.file_id = upload_use.file_id AND other.run_id <> :run_id
      AND (run.state = 'active' OR run.state = 'halted')
  )
ORDER BY file_id;

-- name: note_deleted
INSERT INTO deleted_copy (kind, provider_id, run_id, was_there, deleted_at)
VALUES (:kind, :provider_id, :run_id, :was_there, :at)
ON CONFLICT DO NOTHING;

-- name: drop_inputs
UPDATE input_row SET data = ''
WHERE request_id BETWEEN :first_id AND :last_id AND data <> ''
  AND request_id IN (
    SELECT id FROM request
    WHERE id BETWEEN :first_id AND :last_id AND +run_id = :run_id AND settled_at IS NOT NULL
  );

-- name: drop_continuations
DELETE FROM continuation
WHERE request_id IN (
  SELECT id FROM request
  WHERE id BETWEEN :first_id AND :last_id AND +run_id = :run_id AND settled_at IS NOT NULL
);

-- name: drop_outputs
-- An answer that a row of another run shares is that run's, too.
DELETE FROM result
WHERE attempt_id BETWEEN :first_id * 1000000 AND :last_id * 1000000 + 999999
  AND attempt_id / 1000000 IN (
    SELECT id FROM request
    WHERE id BETWEEN :first_id AND :last_id AND +run_id = :run_id AND settled_at IS NOT NULL
  )
  AND attempt_id NOT IN (SELECT answered_by FROM request WHERE answered_by IS NOT NULL AND run_id <> :run_id);

-- name: drop_tool_calls
UPDATE tool_call SET arguments = '', output = ''
WHERE attempt_id BETWEEN :first_id * 1000000 AND :last_id * 1000000 + 999999
  AND (arguments <> '' OR output <> '')
  AND attempt_id / 1000000 IN (
    SELECT id FROM request
    WHERE id BETWEEN :first_id AND :last_id AND +run_id = :run_id AND settled_at IS NOT NULL
  );

-- name: overwrite
-- Freed pages are filled with zeros, so that what was dropped is not read out of the file.
PRAGMA secure_delete = ON;

-- name: overwrite_no_more
PRAGMA secure_delete = OFF;

-- name: count_dropped
UPDATE retention SET inputs_dropped = inputs_dropped + :inputs, outputs_dropped = outputs_dropped + :outputs
WHERE run_id = :run_id;

-- name: without_data
SELECT count(*) AS requests FROM request JOIN input_row ON input_row.request_id = request.id
WHERE request.run_id = :run_id AND input_row.data = '' AND (:code IS NULL OR request.code = :code)
  AND (:flag IS NULL OR EXISTS (SELECT 1 FROM flag WHERE flag.request_id = request.id AND flag.flag = :flag))
  AND request.state IN (SELECT value FROM json_each(:states));
