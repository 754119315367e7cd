-- What PostgreSQL words differently. No index covers the state, so these keep to the range of the run's ids.

-- name: fresh
SELECT
  request.id, request.key, request.stage, input_row.source, request.attempts, request.number, request.epoch,
  request.not_before, request.max_output_tokens, input_row.data
FROM request JOIN input_row ON input_row.request_id = request.id
WHERE request.id > greatest(:after_id, (SELECT coalesce(first_request_id - 1, 0) FROM run WHERE id = :run_id))
  AND request.id <= (SELECT last_request_id FROM run WHERE id = :run_id)
  AND request.run_id + 0 = :run_id AND request.stage || '' = :stage AND request.state = 'pending'
  AND request.not_before = 0
ORDER BY request.id LIMIT :limit;

-- name: open_attempts
-- The oldest first: the provider may soon forget them.
SELECT
  attempt.id AS attempt_id, request.id AS request_id, request.key, request.stage, request.state, request.number,
  request.attempts, request.epoch, request.turn, attempt.response_id, attempt.status, attempt.model,
  attempt.service_tier, attempt.completion_window, attempt.sent_at, attempt.accepted_at, attempt.adopted,
  CASE WHEN attempt.adopted = 1 THEN (
    SELECT worst_case_pusd FROM attempt AS holder
    WHERE holder.response_id = attempt.response_id AND holder.shares_response = 0
  ) ELSE attempt.worst_case_pusd END AS worst_case_pusd,
  CASE WHEN request.turn = 0 THEN 0 ELSE least(request.turn, (
    SELECT count(*) FROM attempt AS flawed
    WHERE flawed.id BETWEEN request.id * 1000000 AND request.id * 1000000 + request.number
      AND flawed.code = 'output_invalid'
  )) END AS repairs
FROM request JOIN attempt ON attempt.id = request.id * 1000000 + request.number
WHERE request.id >= (SELECT first_request_id FROM run WHERE id = :run_id)
  AND request.id <= (SELECT last_request_id FROM run WHERE id = :run_id)
  AND request.run_id + 0 = :run_id AND request.settled_at IS NULL AND request.state <> 'pending'
  AND request.state <> 'blocked'
ORDER BY attempt.accepted_at IS NULL, attempt.accepted_at, attempt.id;
