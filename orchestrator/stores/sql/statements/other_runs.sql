-- Requests of other runs that ask the same: asked by readers, and by the writer in its claims.

-- name: others
-- takes: fingerprint, run_id, since
-- The latest first: what has a whole answer, and what is in flight.
SELECT
  request.id, request.run_id, run.name, request.state, attempt.id, attempt.worst_case_pusd,
  attempt.provider_batch IS NOT NULL AND attempt.response_id IS NULL AS in_batch
FROM request
JOIN run ON run.id = request.run_id
JOIN attempt ON attempt.id = coalesce(request.answered_by, request.id * 1000000 + request.number)
WHERE request.fingerprint = :fingerprint AND request.same_as IS NULL AND request.run_id <> :run_id AND (
  (request.settled_at IS NULL AND request.state <> 'pending' AND request.state <> 'blocked')
  OR (
    request.state = 'succeeded' AND request.settled_at >= :since AND attempt.status = 'completed'
    AND EXISTS (SELECT 1 FROM result WHERE result.attempt_id = attempt.id)
  )
)
ORDER BY request.id DESC;

-- name: waits
SELECT
  waiting.request_id, other.id, other.run_id, run.name, other.state,
  attempt.provider_batch IS NOT NULL AND attempt.response_id IS NULL AS in_batch
FROM waiting
JOIN request ON request.id = waiting.request_id
JOIN request AS other ON other.id = waiting.other_id
JOIN run ON run.id = other.run_id
LEFT JOIN attempt ON attempt.id = other.id * 1000000 + other.number
WHERE waiting.run_id = :run_id AND request.state = 'blocked'
ORDER BY waiting.request_id;

-- name: wait_for_adopter
-- takes: other_id, adopter_id
-- What waited for a request whose response is taken over waits for the one that took it.
UPDATE waiting SET other_id = :adopter_id WHERE other_id = :other_id AND request_id <> :adopter_id;

-- name: end_wait
-- takes: request_id
DELETE FROM waiting WHERE request_id = :request_id;

-- name: waited_for
-- takes: request_id
SELECT
  waiting.adopted, request.run_id, request.stage, request.key, other.id AS other_id, other.run_id AS other_run_id,
  other.stage AS other_stage, other.state, other.code, other.message, answer.id AS answer_id, own.id AS own_id,
  own.response_id IS NOT NULL AND own.ended_at IS NULL AS is_open,
  answer.status = 'completed' AND EXISTS (SELECT 1 FROM result WHERE result.attempt_id = answer.id) AS is_whole
FROM waiting
JOIN request ON request.id = waiting.request_id
JOIN request AS other ON other.id = waiting.other_id
LEFT JOIN attempt AS answer ON answer.id = coalesce(other.answered_by, other.id * 1000000 + other.number)
LEFT JOIN attempt AS own ON own.id = request.id * 1000000 + request.number
WHERE waiting.request_id = :request_id AND request.state = 'blocked';

-- name: leave_wait
UPDATE request SET
  state = :to_state, not_before = :not_before, answered_by = :answered_by, code = :code, message = :message,
  settled_at = :settled_at
WHERE id = :request_id AND state = :from_state;

-- name: adoptable
-- takes: request_id, from_state
SELECT request.run_id, request.stage, request.number, request.turn
FROM request JOIN attempt ON attempt.id = request.id * 1000000 + request.number
WHERE request.id = :request_id AND request.state = :from_state AND attempt.response_id IS NOT NULL;

-- name: adopt_response
-- takes: attempt_id, adopted_id, ended_at
INSERT INTO attempt (
  id, idempotency_key, model, service_tier, completion_window, metadata, sent_at, accepted_at, response_id,
  shares_response, status, completed_at, ended_at, adopted, lane, endpoint
)
SELECT
  :attempt_id, idempotency_key, model, service_tier, completion_window, metadata, sent_at, accepted_at, response_id,
  1, status, completed_at, :ended_at, 1, lane, endpoint
FROM attempt WHERE id = :adopted_id;

-- name: adopt_turn
-- takes: request_id, adopted_id
INSERT INTO continuation (request_id, context_tokens, fields)
SELECT :request_id, context_tokens, fields FROM continuation WHERE request_id = :adopted_id
ON CONFLICT (request_id) DO UPDATE SET context_tokens = excluded.context_tokens, fields = excluded.fields;

-- name: adopt_body
-- takes: attempt_id, adopted_id
INSERT INTO result (attempt_id, output_text, body)
SELECT :attempt_id, output_text, body FROM result WHERE attempt_id = :adopted_id;

-- name: adopt_tool_calls
-- takes: attempt_id, adopted_id
INSERT INTO tool_call (attempt_id, call_id, place, name, arguments, output, failed, started_at, ended_at)
SELECT :attempt_id, call_id, place, name, arguments, output, failed, started_at, ended_at
FROM tool_call WHERE attempt_id = :adopted_id;

-- name: take_over
-- takes: request_id, number, turn, fingerprint, from_state, to_state
UPDATE request SET state = :to_state, number = :number, turn = :turn, fingerprint = :fingerprint, not_before = 0
WHERE id = :request_id AND number = :number - 1 AND state = :from_state;

-- name: hand_over
-- takes: request_id, from_state, to_state
UPDATE request SET state = :to_state WHERE id = :request_id AND state = :from_state;

-- name: end_shared
-- takes: attempt_id, at
-- An attempt that only shared the response has nothing left to do with it.
UPDATE attempt SET ended_at = :at, counted = 0 WHERE id = :attempt_id AND shares_response = 1 AND ended_at IS NULL
RETURNING worst_case_pusd;

-- name: adopted
-- takes: attempt_id
SELECT
  attempt.response_id, attempt.status, attempt.model, attempt.service_tier, attempt.completion_window,
  attempt.sent_at, attempt.accepted_at, request.key, request.stage, request.state, request.number, request.attempts,
  request.epoch, request.turn, holder.worst_case_pusd, attempt.lane, attempt.endpoint
FROM attempt
JOIN request ON request.id = attempt.request_id
LEFT JOIN attempt AS holder ON holder.response_id = attempt.response_id AND holder.shares_response = 0
WHERE attempt.id = :attempt_id;
