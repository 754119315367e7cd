-- Every move of a request is a compare-and-set: it changes a row for exactly one caller, and none if another caller
-- moved the request first. :from_state and :to_state are a move of the state table (core/states.py); no statement here
-- names a state that a request moves to. An attempt's id is request_id * 1000000 + number (see the schema). The
-- statements that every row goes through have their parameters in order (see queries.py) and return nothing that the
-- caller knows: RETURNING costs as much as the update itself.

-- name: create_run
INSERT INTO run (
  name, uid, job, spec, fingerprint, input_identity, state, budget_pusd, deadline_at, created_at, simulated,
  day
) VALUES (
  :name, :uid, :job, :spec_json, :fingerprint, :input_identity, 'active', :budget_pusd, :deadline_at, :created_at,
  :simulated, :day
) ON CONFLICT (name) DO NOTHING
RETURNING id;

-- name: create_total
INSERT INTO run_total (run_id) VALUES (:run_id);

-- name: set_run_state
UPDATE run SET
  state = :state, reason = :reason, ended_at = CASE WHEN :state = 'active' THEN NULL ELSE :at END, resume_at = :resume_at
WHERE id = :run_id;

-- name: adapt_run
UPDATE run SET budget_pusd = :budget_pusd, deadline_at = :deadline_at, input_identity = :input_identity
WHERE id = :run_id;

-- name: keep_spec
UPDATE run SET
  spec = :spec_json, planned_complete = CASE WHEN :reopen_plan = 1 THEN 0 ELSE planned_complete END, state = CASE WHEN :reopen_plan = 1 THEN 'active' ELSE state END,
  reason = CASE WHEN :reopen_plan = 1 THEN NULL ELSE reason END, ended_at = CASE WHEN :reopen_plan = 1 THEN NULL ELSE ended_at END
WHERE id = :run_id;

-- name: flag_cancel
UPDATE run SET cancel_requested = 1 WHERE id = :run_id RETURNING first_request_id, last_request_id;

-- name: request_bounds
SELECT first_request_id, last_request_id FROM run WHERE id = :run_id;

-- ── planning ──

-- name: last_request_id
SELECT coalesce(max(id), 0) FROM request;

-- name: add_request
INSERT INTO request (id, run_id, stage, key, state) VALUES (:id, :run_id, :stage, :key, :state)
ON CONFLICT (run_id, stage, key) DO NOTHING;

-- name: requests_after
SELECT id FROM request WHERE id > :id;

-- name: position_of_key
SELECT input_row.position
FROM request JOIN input_row ON input_row.request_id = request.id
WHERE request.run_id = :run_id AND request.stage = :stage AND request.key = :key;

-- name: add_input_row
INSERT INTO input_row (request_id, position, source, data) VALUES (:id, :position, :source, :data);

-- name: add_skipped_row
INSERT INTO skipped_row (run_id, position, source, reason) VALUES (:run_id, :position, :source, :reason)
ON CONFLICT DO NOTHING;

-- name: move_plan_mark
-- Never back: a batch that is added again must not make the planner read rows twice.
UPDATE run SET
  planned_position = max(planned_position, :position), planned_complete = max(planned_complete, :complete),
  first_request_id = coalesce(first_request_id, :first_id), last_request_id = coalesce(:last_id, last_request_id)
WHERE id = :run_id;

-- ── the life of an attempt ──

-- name: claimed
-- takes: request_id
SELECT
  request.run_id, request.stage, attempt.worst_case_pusd, attempt.response_id, attempt.shares_response,
  attempt.adopted
FROM request JOIN attempt ON attempt.id = request.id * 1000000 + request.number
WHERE request.id = :request_id;

-- name: is_in_state
-- takes: request_id, state
SELECT 1 FROM request WHERE id = :request_id AND state = :state;

-- name: earlier_duplicate
-- takes: fingerprint, run_id, request_id
SELECT id FROM request
WHERE fingerprint = :fingerprint AND run_id = :run_id AND same_as IS NULL AND answered_by IS NULL AND id <> :request_id
ORDER BY id LIMIT 1;

-- name: claim_request
-- takes: request_id, run_id, stage, number, fingerprint, from_state, to_state
-- A further turn has no fingerprint of its own: what the request asks is what its first turn asked.
UPDATE request SET state = :to_state, number = :number, fingerprint = coalesce(:fingerprint, fingerprint)
WHERE id = :request_id AND run_id = :run_id AND stage = :stage AND state = :from_state;

-- name: add_attempt
-- takes: attempt_id, idempotency_key, model, service_tier, window, worst_case_pusd, metadata, at, lane, endpoint
INSERT INTO attempt (
  id, idempotency_key, model, service_tier, completion_window, worst_case_pusd, metadata, sent_at, lane,
  endpoint
) VALUES (
  :attempt_id, :idempotency_key, :model, :service_tier, :window, :worst_case_pusd, :metadata, :at, :lane,
  :endpoint
);

-- name: accept_request
-- takes: request_id, number, from_state, to_state
UPDATE request SET state = :to_state, code = NULL, message = NULL
WHERE id = :request_id AND number = :number AND state = :from_state;

-- name: accept_attempt
-- takes: attempt_id, response_id, status, at
-- Changes nothing if another attempt holds the response: that one alone is charged for it.
UPDATE OR IGNORE attempt SET
  response_id = :response_id, status = :status, accepted_at = :at, code = NULL, message = NULL, shares_response = 0
WHERE id = :attempt_id;

-- name: holder
-- takes: response_id
SELECT id FROM attempt WHERE response_id = :response_id AND shares_response = 0;

-- name: share_response
-- takes: attempt_id, response_id, status, at
UPDATE attempt SET
  response_id = :response_id, status = :status, accepted_at = :at, code = NULL, message = NULL, shares_response = 1
WHERE id = :attempt_id;

-- name: name_response
-- takes: attempt_id, response_id
-- Changes nothing if another attempt holds the response: that one alone is charged for it.
UPDATE OR IGNORE attempt SET response_id = :response_id, shares_response = 0 WHERE id = :attempt_id;

-- name: name_lost_response
-- takes: attempt_id, response_id
UPDATE OR IGNORE attempt SET response_id = :response_id
WHERE id = :attempt_id AND response_id IS NULL AND ended_at IS NOT NULL;

-- name: share_named
-- takes: attempt_id, response_id
UPDATE attempt SET response_id = :response_id, shares_response = 1 WHERE id = :attempt_id;

-- name: release_request
-- takes: request_id, number, not_before, from_state, to_state
UPDATE request SET state = :to_state, not_before = :not_before, number = number - 1
WHERE id = :request_id AND number = :number AND state = :from_state
RETURNING run_id, stage;

-- name: remove_attempt
DELETE FROM attempt WHERE id = :attempt_id RETURNING worst_case_pusd;

-- name: end_request
-- takes: request_id, number, from_state, to_state, not_before, counted, renewed, max_output_tokens, code, message,
-- takes: settled_at
UPDATE request SET
  state = :to_state, not_before = :not_before, attempts = attempts + :counted, epoch = epoch + :renewed,
  max_output_tokens = coalesce(:max_output_tokens, max_output_tokens),
  code = :code, message = :message, settled_at = :settled_at
WHERE id = :request_id AND number = :number AND state = :from_state;

-- name: end_attempt
-- takes: attempt_id, status, http_status, model, service_tier, completed_at, ended_at, code, message, counted,
-- takes: possible_duplicate
UPDATE attempt SET
  status = coalesce(:status, status), http_status = :http_status, model = coalesce(:model, model),
  service_tier = coalesce(:service_tier, service_tier), completed_at = :completed_at, ended_at = :ended_at,
  code = :code, message = :message, counted = :counted, possible_duplicate = :possible_duplicate
WHERE id = :attempt_id;

-- name: add_charge
-- takes: attempt_id, cost_pusd, upper_bound_pusd, price_id, input_tokens, cached_tokens, cache_write_tokens,
-- takes: output_tokens, reasoning_tokens, total_tokens, cache_write_12h_tokens, web_searches, file_searches,
-- takes: code_sessions, image_input_tokens, image_output_tokens, image_pusd, estimated, at
INSERT INTO charge (
  attempt_id, charged_at, cost_pusd, upper_bound_pusd, price_id, input_tokens, cached_tokens, cache_write_tokens,
  output_tokens, reasoning_tokens, total_tokens, cache_write_12h_tokens, web_searches, file_searches, code_sessions,
  image_input_tokens, image_output_tokens, image_pusd, estimated
) VALUES (
  :attempt_id, :at, :cost_pusd, :upper_bound_pusd, :price_id, :input_tokens, :cached_tokens, :cache_write_tokens,
  :output_tokens, :reasoning_tokens, :total_tokens, :cache_write_12h_tokens, :web_searches, :file_searches,
  :code_sessions, :image_input_tokens, :image_output_tokens, :image_pusd, :estimated
);

-- name: add_result
-- takes: attempt_id, output_text, body
INSERT INTO result (attempt_id, output_text, body) VALUES (:attempt_id, :output_text, :body);

-- name: settle_unsent
UPDATE request SET state = :to_state, code = :code, message = :message, settled_at = :at
WHERE id = :request_id AND state = :from_state
RETURNING run_id, stage;

-- ── turns ──

-- name: begin_turn
-- What was spent of retry.attempts was spent in the turn before.
UPDATE request SET turn = turn + 1, attempts = 0 WHERE id = :request_id;

-- name: put_continuation
INSERT INTO continuation (request_id, context_tokens, fields) VALUES (:request_id, :context_tokens, :fields)
ON CONFLICT (request_id) DO UPDATE SET context_tokens = excluded.context_tokens, fields = excluded.fields;

-- name: leave_tools
UPDATE request SET
  state = :to_state, not_before = :not_before, code = :code, message = :message, settled_at = :settled_at
WHERE id = :request_id AND number = :number AND state = :from_state
RETURNING run_id, stage;

-- name: add_tool_call
INSERT INTO tool_call (attempt_id, call_id, place, name, arguments, output, failed, started_at, ended_at)
VALUES (:attempt_id, :call_id, :place, :name, :arguments, :output, :failed, :started_at, :ended_at)
ON CONFLICT DO NOTHING;

-- ── chains ──

-- name: add_chain_turn
INSERT INTO chain_turn (request_id, run_id, chain, place) VALUES (:id, :run_id, :chain, :place);

-- name: link_turns
UPDATE request SET follows = linked.before
FROM (
  SELECT request_id, lag(request_id) OVER (PARTITION BY chain ORDER BY place, request_id) AS before
  FROM chain_turn WHERE run_id = :run_id
) AS linked
WHERE request.id = linked.request_id AND request.state = :state;

-- name: unblock_first_turns
UPDATE request SET state = :to_state, not_before = :at
WHERE run_id = :run_id AND state = :from_state AND follows IS NULL AND same_as IS NULL
  AND NOT EXISTS (SELECT 1 FROM waiting WHERE waiting.request_id = request.id)
RETURNING stage;

-- name: keep_conversation
INSERT INTO conversation (run_id, chain, conversation_id, endpoint)
VALUES (:run_id, :chain, :conversation_id, :endpoint)
ON CONFLICT DO NOTHING;

-- name: unblock_next_turn
UPDATE request SET state = :to_state, not_before = :at WHERE follows = :request_id AND state = :from_state
RETURNING stage, key, code;

-- name: settle_later_turns
WITH RECURSIVE rest (id) AS (
  SELECT id FROM request WHERE follows = :request_id AND state = :from_state
  UNION ALL
  SELECT request.id FROM request JOIN rest ON request.follows = rest.id WHERE request.state = :from_state
)
UPDATE request SET state = :to_state, code = :code, message = :message, settled_at = :settled_at
WHERE id IN (SELECT id FROM rest)
RETURNING stage, key, code;

-- ── duplicates ──

-- name: settlement_of
SELECT request.state, coalesce(request.answered_by, request.id * 1000000 + request.number), code, message
FROM request WHERE id = :request_id;

-- name: join_request
UPDATE request SET
  state = :to_state, same_as = :same_as, fingerprint = :fingerprint, answered_by = :answered_by, code = :code,
  message = :message, settled_at = :settled_at
WHERE id = :request_id AND state = :from_state
RETURNING run_id, stage, key;

-- name: what_waits_for
SELECT
  EXISTS (SELECT 1 FROM request WHERE same_as = :request_id),
  EXISTS (SELECT 1 FROM request WHERE follows = :request_id),
  EXISTS (SELECT 1 FROM member WHERE request_id = :request_id);

-- name: settle_duplicates
UPDATE request SET
  state = :to_state, answered_by = :answered_by, code = :code, message = :message, settled_at = :settled_at
WHERE same_as = :request_id AND state = :from_state
RETURNING stage, key, code;

-- name: wait_for
-- takes: request_id, run_id, other_id, adopted
INSERT INTO waiting (request_id, run_id, other_id, adopted) VALUES (:request_id, :run_id, :other_id, :adopted)
ON CONFLICT (request_id) DO UPDATE SET other_id = excluded.other_id, adopted = excluded.adopted;

-- name: end_waits
DELETE FROM waiting WHERE run_id = :run_id;

-- name: holder_of
-- takes: response_id
SELECT attempt.id, request.run_id, attempt.worst_case_pusd, attempt.ended_at
FROM attempt JOIN request ON request.id = attempt.request_id
WHERE attempt.response_id = :response_id AND attempt.shares_response = 0;

-- name: answer_by
-- takes: request_id, attempt_id
UPDATE request SET answered_by = :attempt_id WHERE id = :request_id;

-- name: lower_awaits
-- What the groups wait for that have this request, or one that has shared its outcome, as a member.
UPDATE request SET awaits = (
  SELECT count(*) FROM member JOIN request AS each ON each.id = member.request_id
  WHERE member.group_id = request.id AND each.settled_at IS NULL
) WHERE id IN (
  SELECT group_id FROM member WHERE request_id = :request_id
  UNION SELECT member.group_id FROM request AS same JOIN member ON member.request_id = same.id
  WHERE same.same_as = :request_id
);

-- name: note_status
UPDATE attempt SET status = :status WHERE id = :attempt_id AND ended_at IS NULL;

-- ── a charge that becomes known late ──

-- name: charge_so_far
SELECT
  request.run_id, coalesce(charge.charged_at, attempt.ended_at, attempt.sent_at), attempt.shares_response,
  attempt.possible_duplicate, charge.attempt_id,
  charge.cost_pusd, charge.upper_bound_pusd, charge.input_tokens, charge.cached_tokens, charge.cache_write_tokens,
  charge.output_tokens, charge.reasoning_tokens, charge.total_tokens, charge.cache_write_12h_tokens
FROM attempt
JOIN request ON request.id = attempt.request_id
LEFT JOIN charge ON charge.attempt_id = attempt.id
WHERE attempt.id = :attempt_id;

-- name: replace_charge
-- takes: attempt_id, cost_pusd, upper_bound_pusd, price_id, input_tokens, cached_tokens, cache_write_tokens,
-- takes: output_tokens, reasoning_tokens, total_tokens, cache_write_12h_tokens, web_searches, file_searches,
-- takes: code_sessions, image_input_tokens, image_output_tokens, image_pusd, estimated
UPDATE charge SET
  cost_pusd = :cost_pusd, upper_bound_pusd = :upper_bound_pusd, price_id = :price_id,
  input_tokens = :input_tokens, cached_tokens = :cached_tokens, cache_write_tokens = :cache_write_tokens,
  output_tokens = :output_tokens, reasoning_tokens = :reasoning_tokens, total_tokens = :total_tokens,
  web_searches = :web_searches, file_searches = :file_searches, code_sessions = :code_sessions,
  cache_write_12h_tokens = :cache_write_12h_tokens, image_input_tokens = :image_input_tokens,
  image_output_tokens = :image_output_tokens, image_pusd = :image_pusd, estimated = :estimated
WHERE attempt_id = :attempt_id;

-- name: set_status
UPDATE attempt SET status = :status WHERE id = :attempt_id;

-- name: replace_body
INSERT INTO result (attempt_id, body) VALUES (:attempt_id, :body)
ON CONFLICT (attempt_id) DO UPDATE SET body = excluded.body;

-- ── the operator's decisions, in ranges of ids so that other writes get through ──
-- The plus keeps the planner on the ids: through the index of keys it would walk the whole run for each range.

-- name: states_in_range
SELECT DISTINCT stage, state FROM request WHERE id BETWEEN :first_id AND :last_id AND +run_id = :run_id;

-- name: cancel_range
UPDATE request SET state = :to_state, code = 'cancelled', message = NULL, settled_at = :at
WHERE id BETWEEN :first_id AND :last_id AND +run_id = :run_id AND stage = :stage AND state = :from_state;

-- name: restart_turns
-- It continued from a response that is gone, so it begins again with its first turn.
UPDATE request SET turn = 0
WHERE id BETWEEN :first_id AND :last_id AND +run_id = :run_id AND turn > 0 AND code = 'previous_response_not_found'
  AND state IN (SELECT value FROM json_each(:states)) AND (:code IS NULL OR code = :code)
  AND (:only_stage IS NULL OR stage = :only_stage)
  AND (:flag IS NULL OR EXISTS (SELECT 1 FROM flag WHERE flag.request_id = request.id AND flag.flag = :flag))
RETURNING id;

-- name: drop_continuation
DELETE FROM continuation WHERE request_id = :id;

-- name: requeue_range
-- A turn whose chain broke before it is not tried again by itself: it comes back with the turn that it follows.
-- What continues from a response is read among the requests that were put off, not as a fresh one.
UPDATE request SET
  state = :to_state, attempts = 0, code = NULL, message = NULL, settled_at = NULL, same_as = NULL,
  to_pass_on = min(to_pass_on, 1),
  not_before = CASE
    WHEN turn > 0 OR EXISTS (SELECT 1 FROM chain_turn WHERE chain_turn.request_id = request.id) THEN 1 ELSE 0
  END
WHERE id BETWEEN :first_id AND :last_id AND +run_id = :run_id AND stage = :stage AND state = :from_state
  AND (:code IS NULL OR code = :code)
  AND (:flag IS NULL OR EXISTS (SELECT 1 FROM flag WHERE flag.request_id = request.id AND flag.flag = :flag))
  AND NOT (level IS NOT NULL AND attempts = 0 AND number = 0)
  AND (follows IS NULL OR (SELECT earlier.state FROM request AS earlier WHERE earlier.id = request.follows) = 'succeeded');

-- name: broken_turns
-- The turns that follow one which will be tried again.
WITH RECURSIVE rest (id) AS (
  SELECT request.id FROM request JOIN request AS earlier ON earlier.id = request.follows
  WHERE request.run_id = :run_id AND request.follows IS NOT NULL AND earlier.settled_at IS NULL
    AND request.state IN (SELECT value FROM json_each(:states))
  UNION ALL
  SELECT request.id FROM request JOIN rest ON request.follows = rest.id
  WHERE request.state IN (SELECT value FROM json_each(:states))
)
SELECT id, stage, state FROM request WHERE id IN (SELECT id FROM rest);

-- name: block_again
UPDATE request SET state = :to_state, attempts = 0, code = NULL, message = NULL, settled_at = NULL, not_before = 0
WHERE id = :id AND state = :from_state;

-- name: doubted_in_range
-- The conditions on the open states let the planner use their index.
SELECT request.id, request.stage, request.number, request.code, request.message, attempt.worst_case_pusd
FROM request JOIN attempt ON attempt.id = request.id * 1000000 + request.number
WHERE request.id BETWEEN :first_id AND :last_id AND request.run_id = :run_id AND request.state = :from_state
  AND request.settled_at IS NULL AND request.state <> 'pending' AND request.state <> 'blocked'
  AND (:code IS NULL OR request.code = :code)
  AND (:flag IS NULL OR EXISTS (SELECT 1 FROM flag WHERE flag.request_id = request.id AND flag.flag = :flag));

-- name: resolve_request
UPDATE request SET
  state = :to_state,
  not_before = CASE
    WHEN :resent = 1
      AND (turn > 0 OR EXISTS (SELECT 1 FROM chain_turn WHERE chain_turn.request_id = request.id)) THEN 1 ELSE 0
  END,
  attempts = CASE WHEN :resent = 1 THEN 0 ELSE attempts + 1 END,
  code = CASE WHEN :resent = 1 THEN NULL ELSE code END, message = CASE WHEN :resent = 1 THEN NULL ELSE message END, settled_at = :settled_at
WHERE id = :request_id AND state = :from_state;

-- name: resolve_attempt
UPDATE attempt SET ended_at = :at, counted = 1, possible_duplicate = :resent WHERE id = :attempt_id;

-- name: reopen_run
UPDATE run SET state = 'active', reason = NULL, ended_at = NULL, cancel_requested = 0 WHERE id = :run_id;

-- ── sums, prices, memory ──

-- name: any_blocked
SELECT EXISTS (SELECT 1 FROM tally WHERE run_id = :run_id AND state = 'blocked' AND requests > 0);

-- name: stage_states
SELECT state, requests FROM tally WHERE run_id = :run_id AND stage = :stage;

-- name: move_tally
UPDATE tally SET requests = requests + :change WHERE run_id = :run_id AND stage = :stage AND state = :state;

-- name: add_tally
INSERT INTO tally (run_id, stage, state, requests) VALUES (:run_id, :stage, :state, :change);

-- name: add_totals
UPDATE run_total SET
  attempts = attempts + :attempts, polls = polls + :polls, rate_limited = rate_limited + :rate_limited,
  elapsed_s = elapsed_s + :elapsed_s, skipped_rows = skipped_rows + :skipped_rows,
  reused = reused + :reused, reserved_pusd = reserved_pusd + :reserved_pusd,
  possible_duplicates = possible_duplicates + :possible_duplicates,
  possible_duplicates_upper_bound_pusd = possible_duplicates_upper_bound_pusd + :possible_duplicates_upper_bound_pusd,
  possible_duplicates_unbounded = possible_duplicates_unbounded + :possible_duplicates_unbounded,
  cost_unbounded = cost_unbounded + :cost_unbounded, cost_estimated_pusd = cost_estimated_pusd + :cost_estimated_pusd,
  cost_pusd = cost_pusd + :cost_pusd, cost_unknown = cost_unknown + :cost_unknown,
  cost_unknown_upper_bound_pusd = cost_unknown_upper_bound_pusd + :cost_unknown_upper_bound_pusd,
  input_tokens = input_tokens + :input_tokens, cached_tokens = cached_tokens + :cached_tokens,
  cache_write_tokens = cache_write_tokens + :cache_write_tokens, output_tokens = output_tokens + :output_tokens,
  reasoning_tokens = reasoning_tokens + :reasoning_tokens, total_tokens = total_tokens + :total_tokens,
  cache_write_12h_tokens = cache_write_12h_tokens + :cache_write_12h_tokens,
  latest_at = max(latest_at, :latest_at)
WHERE run_id = :run_id;

-- name: is_simulated
SELECT simulated FROM run WHERE id = :run_id;

-- name: move_spending
UPDATE spending SET pusd = pusd + :change WHERE day = :day AND run_id = :run_id;

-- name: add_spending
INSERT INTO spending (day, run_id, pusd) VALUES (:day, :run_id, :change);

-- name: add_price
INSERT INTO price (
  model, tier, input, cached, cache_write, cache_write_12h, output, fee_web_search, fee_file_search, fee_code_session,
  source, version, estimated
) VALUES (
  :model, :tier, :input, :cached, :cache_write, :cache_write_12h, :output, :fee_web_search, :fee_file_search, :fee_code_session,
  :source, :version, :estimated
) ON CONFLICT DO NOTHING;

-- name: find_price
SELECT id FROM price
WHERE model = :model AND tier = :tier AND input = :input AND cached = :cached AND cache_write = :cache_write
  AND cache_write_12h = :cache_write_12h
  AND output = :output AND fee_web_search = :fee_web_search AND fee_file_search = :fee_file_search
  AND fee_code_session = :fee_code_session AND source = :source AND version = :version AND estimated = :estimated;

-- name: remember
INSERT INTO memory (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = excluded.value;

-- ── uploads and stream events ──

-- name: add_upload
INSERT INTO upload (file_id, provider, sha256, name, bytes, uploaded_at)
VALUES (:file_id, :provider, :sha256, :name, :bytes, :uploaded_at)
ON CONFLICT DO NOTHING;

-- name: use_upload
INSERT INTO upload_use (file_id, run_id) VALUES (:file_id, :run_id) ON CONFLICT DO NOTHING;

-- name: add_progress
INSERT INTO progress_event (attempt_id, sequence, type, item, at) VALUES (:attempt_id, :sequence, :type, :item, :at)
ON CONFLICT DO NOTHING;
