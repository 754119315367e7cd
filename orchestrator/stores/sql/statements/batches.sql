-- Batches at the provider, and the attempts that are their lines.

-- name: add_batch
INSERT INTO provider_batch (run_id, stage, model, uid, lines, tokens, made_at)
VALUES (:run_id, :stage, :model, :uid, :lines, :tokens, :made_at);

-- name: id_of_uid
SELECT id FROM provider_batch WHERE uid = :uid;

-- name: put_in_batch
-- takes: attempt_id, batch_id
UPDATE attempt SET provider_batch = :batch_id WHERE id = :attempt_id;

-- name: note_batch
UPDATE provider_batch SET
  input_file = coalesce(:input_file, input_file), batch_id = coalesce(:batch_id, batch_id),
  status = coalesce(:status, status), asked_at = coalesce(:asked_at, asked_at),
  ended_at = coalesce(:ended_at, ended_at), collected_at = coalesce(:collected_at, collected_at),
  file_deleted_at = coalesce(:file_deleted_at, file_deleted_at)
WHERE id = :id;

-- name: attach_batch
UPDATE provider_batch SET batch_id = :batch_id, status = :status, submitted_at = :at
WHERE id = :id AND batch_id IS NULL;

-- name: attempts_to_accept
-- takes: batch_id, state
SELECT attempt.id, request.id, request.run_id, request.stage, attempt.worst_case_pusd
FROM attempt JOIN request ON request.id = attempt.request_id AND attempt.id = request.id * 1000000 + request.number
WHERE attempt.provider_batch = :batch_id AND request.state = :state;

-- name: accept_line
-- takes: attempt_id, at
UPDATE attempt SET accepted_at = :at, code = NULL, message = NULL WHERE id = :attempt_id;

-- name: unfinished_batches
SELECT
  id, run_id, stage, model, uid, input_file, batch_id, status, lines, tokens, made_at, asked_at, submitted_at,
  ended_at, collected_at
FROM provider_batch
WHERE run_id = :run_id AND (collected_at IS NULL OR (file_deleted_at IS NULL AND input_file IS NOT NULL))
ORDER BY id;

-- name: batches_of_run
SELECT
  id, run_id, stage, model, uid, input_file, batch_id, status, lines, tokens, made_at, asked_at, submitted_at,
  ended_at, collected_at
FROM provider_batch WHERE run_id = :run_id ORDER BY id;

-- name: open_worst_case
SELECT coalesce(sum(attempt.worst_case_pusd), 0) AS pusd
FROM attempt JOIN request ON request.id = attempt.request_id AND attempt.id = request.id * 1000000 + request.number
WHERE attempt.provider_batch = :batch_id AND request.state IN ('submitting', 'submitted');

-- name: open_lines
SELECT
  attempt.id AS attempt_id, request.id AS request_id, request.key, request.stage, request.state, request.number,
  request.attempts, request.epoch, request.turn, attempt.response_id, attempt.status, attempt.model,
  attempt.service_tier, attempt.completion_window, attempt.sent_at, attempt.accepted_at, attempt.adopted,
  attempt.lane, attempt.endpoint, attempt.worst_case_pusd, 0 AS repairs
FROM attempt JOIN request ON request.id = attempt.request_id AND attempt.id = request.id * 1000000 + request.number
WHERE attempt.provider_batch = :batch_id AND request.state IN ('submitting', 'submitted')
  AND (:attempt_ids IS NULL OR attempt.id IN (SELECT value FROM json_each(:attempt_ids)))
ORDER BY attempt.id LIMIT :limit;

-- name: lines_by_number
SELECT number, id
FROM (SELECT row_number() OVER (ORDER BY id) AS number, id FROM attempt WHERE provider_batch = :batch_id) AS line
WHERE number IN (SELECT value FROM json_each(:numbers));
