-- Taking a run out of the database, or letting it begin again.

-- name: has_accepted
-- Whether a response is known or may exist, a request has an answer, or another run waits for one.
SELECT
  EXISTS (SELECT 1 FROM waiting JOIN request ON request.id = waiting.other_id WHERE request.run_id = :run_id)
  OR EXISTS (SELECT 1 FROM tally WHERE run_id = :run_id AND state = 'succeeded' AND requests > 0)
  OR EXISTS (
    SELECT 1 FROM run
    JOIN attempt ON attempt.id BETWEEN run.first_request_id * 1000000 AND run.last_request_id * 1000000 + 999999
    JOIN request ON request.id = attempt.request_id AND request.run_id = run.id
    LEFT JOIN charge ON charge.attempt_id = attempt.id
    WHERE run.id = :run_id AND (
      attempt.response_id IS NOT NULL OR attempt.ended_at IS NULL OR attempt.possible_duplicate = 1
      OR charge.attempt_id IS NOT NULL
    )
  ) AS accepted;

-- name: reopen_plan
-- From here on a process that reads the input again misses no row, however far the removal has come.
UPDATE run SET planned_position = 0, planned_complete = 0 WHERE id = :run_id;

-- name: clear_progress_event
DELETE FROM progress_event WHERE attempt_id BETWEEN :first_id * 1000000 AND :last_id * 1000000 + 999999
  AND attempt_id / 1000000 IN (SELECT id FROM request WHERE id BETWEEN :first_id AND :last_id AND run_id = :run_id);

-- name: clear_tool_call
DELETE FROM tool_call WHERE attempt_id BETWEEN :first_id * 1000000 AND :last_id * 1000000 + 999999
  AND attempt_id / 1000000 IN (SELECT id FROM request WHERE id BETWEEN :first_id AND :last_id AND run_id = :run_id);

-- name: clear_result
DELETE FROM result WHERE attempt_id BETWEEN :first_id * 1000000 AND :last_id * 1000000 + 999999
  AND attempt_id / 1000000 IN (SELECT id FROM request WHERE id BETWEEN :first_id AND :last_id AND run_id = :run_id);

-- name: clear_charge
DELETE FROM charge WHERE attempt_id BETWEEN :first_id * 1000000 AND :last_id * 1000000 + 999999
  AND attempt_id / 1000000 IN (SELECT id FROM request WHERE id BETWEEN :first_id AND :last_id AND run_id = :run_id);

-- name: clear_attempt
DELETE FROM attempt WHERE id BETWEEN :first_id * 1000000 AND :last_id * 1000000 + 999999
  AND id / 1000000 IN (SELECT id FROM request WHERE id BETWEEN :first_id AND :last_id AND run_id = :run_id);

-- name: clear_waiting
DELETE FROM waiting
WHERE request_id IN (SELECT id FROM request WHERE id BETWEEN :first_id AND :last_id AND run_id = :run_id);

-- name: clear_continuation
DELETE FROM continuation
WHERE request_id IN (SELECT id FROM request WHERE id BETWEEN :first_id AND :last_id AND run_id = :run_id);

-- name: clear_chain_turn
DELETE FROM chain_turn
WHERE request_id IN (SELECT id FROM request WHERE id BETWEEN :first_id AND :last_id AND run_id = :run_id);

-- name: clear_member
DELETE FROM member
WHERE group_id IN (SELECT id FROM request WHERE id BETWEEN :first_id AND :last_id AND run_id = :run_id)
  OR request_id IN (SELECT id FROM request WHERE id BETWEEN :first_id AND :last_id AND run_id = :run_id);

-- name: clear_flag
DELETE FROM flag
WHERE request_id IN (SELECT id FROM request WHERE id BETWEEN :first_id AND :last_id AND run_id = :run_id);

-- name: clear_input_row
DELETE FROM input_row
WHERE request_id IN (SELECT id FROM request WHERE id BETWEEN :first_id AND :last_id AND run_id = :run_id);

-- name: unlink_requests
-- Rows of a run refer to each other, also across the ranges in which they are removed.
UPDATE request SET same_as = NULL, follows = NULL
WHERE run_id = :run_id AND (
  same_as BETWEEN :first_id AND :last_id OR follows BETWEEN :first_id AND :last_id OR id BETWEEN :first_id AND :last_id
);

-- name: clear_request
DELETE FROM request WHERE id BETWEEN :first_id AND :last_id AND run_id = :run_id;

-- name: clear_skipped_row
DELETE FROM skipped_row WHERE run_id = :run_id;

-- name: clear_stage
DELETE FROM stage WHERE run_id = :run_id;

-- name: clear_batch
DELETE FROM provider_batch WHERE run_id = :run_id;

-- name: clear_conversation
DELETE FROM conversation WHERE run_id = :run_id;

-- name: clear_noted_change
DELETE FROM noted_change WHERE run_id = :run_id;

-- name: clear_pulse
DELETE FROM pulse WHERE run_id = :run_id;

-- name: clear_tally
DELETE FROM tally WHERE run_id = :run_id;

-- name: clear_spending
DELETE FROM spending WHERE run_id = :run_id;

-- name: clear_total
DELETE FROM run_total WHERE run_id = :run_id;

-- name: replace_run
UPDATE run SET
  job = :job, spec = :spec_json, fingerprint = :fingerprint, input_identity = :input_identity, state = 'active',
  reason = NULL, budget_pusd = :budget_pusd, deadline_at = :deadline_at, ended_at = NULL, cancel_requested = 0,
  planned_position = 0, planned_complete = 0, first_request_id = NULL, last_request_id = NULL, day = :day,
  resume_at = NULL
WHERE id = :run_id;

-- name: keep_spending
INSERT INTO removed_spending (day, simulated, pusd)
SELECT spending.day, run.simulated, spending.pusd FROM spending JOIN run ON run.id = spending.run_id
WHERE spending.run_id = :run_id
ON CONFLICT (day, simulated) DO UPDATE SET pusd = removed_spending.pusd + excluded.pusd;

-- name: datasets_with_answers
SELECT DISTINCT dataset.name
FROM entry JOIN request ON request.id = entry.request_id JOIN dataset ON dataset.id = entry.dataset_id
WHERE request.run_id = :run_id ORDER BY dataset.name;

-- name: runs_that_wait
-- They wait for requests of this one, or have taken responses over that are open and charged here.
SELECT run.name
FROM waiting JOIN request ON request.id = waiting.other_id JOIN run ON run.id = waiting.run_id
WHERE request.run_id = :run_id
UNION
SELECT run.name
FROM attempt AS adopter
JOIN attempt AS holder ON holder.response_id = adopter.response_id AND holder.shares_response = 0
JOIN request AS asked ON asked.id = holder.id / 1000000
JOIN request ON request.id = adopter.id / 1000000
JOIN run ON run.id = request.run_id
WHERE adopter.adopted = 1 AND adopter.ended_at IS NULL AND asked.run_id = :run_id AND request.run_id <> :run_id
ORDER BY 1;

-- name: shared_answers
-- Requests of other runs that have an answer of this one, each with the attempt that becomes its own.
SELECT
  request.run_id, request.id AS request_id, request.id * 1000000 + request.number + 1 AS attempt_id,
  request.answered_by, max(attempt.sent_at, coalesce(attempt.accepted_at, 0), coalesce(attempt.ended_at, 0)) AS latest_at
FROM request JOIN attempt ON attempt.id = request.answered_by
WHERE request.run_id <> :run_id AND request.answered_by BETWEEN :first_id * 1000000 AND :last_id * 1000000 + 999999
  AND request.answered_by / 1000000 IN (
    SELECT id FROM request WHERE id BETWEEN :first_id AND :last_id AND run_id = :run_id
  );

-- name: copy_attempt
INSERT INTO attempt (
  id, idempotency_key, model, service_tier, completion_window, worst_case_pusd, sent_at, accepted_at, response_id,
  shares_response, status, http_status, completed_at, ended_at, code, message, counted, lane,
  endpoint
)
SELECT
  :attempt_id, idempotency_key, model, service_tier, completion_window, worst_case_pusd, sent_at, accepted_at,
  response_id, CASE WHEN response_id IS NULL THEN 0 ELSE 1 END, status, http_status, completed_at, ended_at, code, message, 0,
  lane, endpoint
FROM attempt WHERE id = :answered_by;

-- name: copy_result
INSERT INTO result (attempt_id, output_text, body)
SELECT :attempt_id, output_text, body FROM result WHERE attempt_id = :answered_by;

-- name: disown
-- Responses that other runs took over from this one: the attempt that is charged for them goes.
UPDATE attempt SET adopted = 0
WHERE adopted = 1 AND response_id IN (
  SELECT holder.response_id FROM attempt AS holder
  WHERE holder.id BETWEEN :first_id * 1000000 AND :last_id * 1000000 + 999999 AND holder.response_id IS NOT NULL
    AND holder.id / 1000000 IN (SELECT id FROM request WHERE id BETWEEN :first_id AND :last_id AND run_id = :run_id)
);

-- name: own_answer
UPDATE request SET number = number + 1, answered_by = :attempt_id WHERE id = :request_id;

-- name: clear_retention
DELETE FROM retention WHERE run_id = :run_id;

-- name: clear_deleted_copy
DELETE FROM deleted_copy WHERE run_id = :run_id;

-- name: clear_upload_use
DELETE FROM upload_use WHERE run_id = :run_id;

-- name: clear_night
DELETE FROM night WHERE run_id = :run_id;

-- name: clear_notice
DELETE FROM notice WHERE run_id = :run_id;

-- name: clear_memory
DELETE FROM memory WHERE name IN (SELECT value FROM json_each(:names));

-- name: remove_run
DELETE FROM run WHERE id = :run_id;

-- name: overwrite
-- Freed pages are filled with zeros, so that what was removed is not read out of the file.
PRAGMA secure_delete = ON;

-- name: overwrite_no_more
PRAGMA secure_delete = OFF;
