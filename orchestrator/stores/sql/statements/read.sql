-- What readers ask. States are literals so that SQLite uses the partial indexes: a bound state could be any.

-- name: run_by_name
SELECT * FROM run WHERE name = :name;

-- name: run_by_id
SELECT * FROM run WHERE id = :run_id;

-- name: runs
SELECT * FROM run ORDER BY id DESC;

-- name: tally
SELECT state, sum(requests) AS requests FROM tally WHERE run_id = :run_id GROUP BY state;

-- name: totals
SELECT * FROM run_total WHERE run_id = :run_id;

-- name: fresh
SELECT
  request.id, request.key, request.stage, input_row.source, request.attempts, request.number, request.epoch,
  request.not_before, request.max_output_tokens, input_row.data
FROM request JOIN input_row ON input_row.request_id = request.id
WHERE request.run_id = :run_id AND request.state = 'pending' AND request.not_before = 0 AND request.id > :after_id
  AND request.stage = :stage
ORDER BY request.id LIMIT :limit;

-- name: delayed
-- What continues a response, its own or that of the turn before, was put off and is found here.
SELECT
  request.id, request.key, request.stage, input_row.source, request.attempts, request.number, request.epoch,
  request.not_before, request.max_output_tokens, input_row.data, request.turn, request.follows, chain_turn.chain,
  continuation.fields, continuation.context_tokens, conversation.conversation_id,
  earlier_attempt.response_id AS earlier_response_id, earlier_charge.total_tokens AS earlier_tokens,
  CASE WHEN request.turn = 0 THEN 0 ELSE min(request.turn, (
    SELECT count(*) FROM attempt AS flawed
    WHERE flawed.id BETWEEN request.id * 1000000 AND request.id * 1000000 + request.number
      AND flawed.code = 'output_invalid'
  )) END AS repairs,
  -- Where it must be sent: what it continues, or what may have been accepted, is there.
  CASE WHEN continuation.request_id IS NOT NULL THEN (
    SELECT endpoint FROM attempt WHERE attempt.id = request.id * 1000000 + request.number
  ) ELSE (
    SELECT endpoint FROM attempt
    WHERE attempt.id BETWEEN request.id * 1000000 AND request.id * 1000000 + request.number
      AND attempt.possible_duplicate = 1
    ORDER BY attempt.id DESC LIMIT 1
  ) END AS stays_at,
  coalesce(conversation.endpoint, earlier_attempt.endpoint) AS chain_at
FROM request JOIN input_row ON input_row.request_id = request.id
LEFT JOIN continuation ON continuation.request_id = request.id
LEFT JOIN chain_turn ON chain_turn.request_id = request.id
LEFT JOIN conversation ON conversation.run_id = request.run_id AND conversation.chain = chain_turn.chain
LEFT JOIN request AS earlier ON earlier.id = request.follows
LEFT JOIN attempt AS earlier_attempt ON earlier_attempt.id = earlier.id * 1000000 + earlier.number
LEFT JOIN charge AS earlier_charge ON earlier_charge.attempt_id = earlier_attempt.id
WHERE request.run_id = :run_id AND request.state = 'pending' AND request.not_before > 0
ORDER BY request.not_before, request.id LIMIT :limit;

-- name: holder
SELECT id FROM attempt WHERE response_id = :response_id AND shares_response = 0;

-- name: open_attempts
-- The oldest first: the provider may soon forget them.
SELECT
  attempt.id AS attempt_id, request.id AS request_id, request.key, request.stage, request.state, request.number,
  request.attempts, request.epoch, request.turn, attempt.response_id, attempt.status, attempt.model, attempt.service_tier, attempt.completion_window,
  attempt.sent_at, attempt.accepted_at, attempt.adopted, attempt.lane, attempt.endpoint,
  CASE WHEN attempt.adopted = 1 THEN (
    SELECT worst_case_pusd FROM attempt AS holder
    WHERE holder.response_id = attempt.response_id AND holder.shares_response = 0
  ) ELSE attempt.worst_case_pusd END AS worst_case_pusd,
  CASE WHEN request.turn = 0 THEN 0 ELSE min(request.turn, (
    SELECT count(*) FROM attempt AS flawed
    WHERE flawed.id BETWEEN request.id * 1000000 AND request.id * 1000000 + request.number
      AND flawed.code = 'output_invalid'
  )) END AS repairs
FROM request JOIN attempt ON attempt.id = request.id * 1000000 + request.number
WHERE request.run_id = :run_id AND request.settled_at IS NULL AND request.state <> 'pending'
  AND request.state <> 'blocked'
  -- The lines of a batch are resumed with it; their tools are not.
  AND (attempt.provider_batch IS NULL OR request.state = 'acting')
ORDER BY attempt.accepted_at IS NULL, attempt.accepted_at, attempt.id;

-- name: accepted_by_endpoint
-- Which endpoints have accepted requests of which stages.
SELECT DISTINCT request.stage, attempt.endpoint
FROM attempt JOIN request ON request.id = attempt.request_id
WHERE attempt.id >= (SELECT first_request_id * 1000000 FROM run WHERE id = :run_id)
  AND attempt.id < (SELECT (last_request_id + 1) * 1000000 FROM run WHERE id = :run_id)
  AND request.run_id = :run_id AND attempt.response_id IS NOT NULL;

-- name: latest_at
SELECT nullif(latest_at, 0) AS at FROM run_total WHERE run_id = :run_id;

-- name: results
-- One page of a run. What the attempts before the latest one cost is read by spent_before, because few have any.
-- The run's bounds keep it from scanning other runs; the plus keeps the planner from walking all keys of the run.
SELECT
  request.id, request.key, request.stage, request.state, request.code, request.message, request.number,
  attempt.response_id, attempt.status, attempt.model, attempt.service_tier, result.output_text,
  charge.attempt_id IS NOT NULL, charge.cost_pusd, charge.upper_bound_pusd,
  charge.input_tokens, charge.cached_tokens, charge.cache_write_tokens, charge.output_tokens,
  charge.reasoning_tokens, charge.total_tokens, charge.cache_write_12h_tokens, charge.estimated,
  -- Its own latest attempt may be one, although it has the answer of another request.
  CASE
    WHEN request.answered_by IS NULL THEN attempt.possible_duplicate
    ELSE (SELECT possible_duplicate FROM attempt AS own WHERE own.id = request.id * 1000000 + request.number)
  END,
  attempt.worst_case_pusd, attempt.sent_at, request.settled_at, request.answered_by IS NOT NULL, attempt.lane, attempt.endpoint,
  flag.flag, flag.note, request.level IS NOT NULL, request.rows_missing
FROM request
LEFT JOIN flag ON flag.request_id = request.id
LEFT JOIN attempt ON attempt.id = coalesce(request.answered_by, request.id * 1000000 + request.number)
LEFT JOIN charge ON charge.attempt_id = request.id * 1000000 + request.number
LEFT JOIN result ON result.attempt_id = attempt.id
WHERE request.id > max(:after_id, (SELECT coalesce(first_request_id - 1, 0) FROM run WHERE id = :run_id))
  AND request.id <= (SELECT last_request_id FROM run WHERE id = :run_id) AND +request.run_id = :run_id
  AND request.state IN (SELECT value FROM json_each(:states))
ORDER BY request.id LIMIT :limit;

-- name: places_in_input
-- The requests of some stages in the order of the rows of the input that they were made of; those of one row by the
-- number at the end of their keys, which is in the order of texts where it has as many digits.
SELECT request.id FROM request JOIN input_row ON input_row.request_id = request.id
WHERE request.run_id = :run_id AND request.stage || '/' || request.state IN (SELECT value FROM json_each(:wanted))
ORDER BY input_row.position, length(request.key), request.key, request.id;

-- name: answers
SELECT attempt_id, output_text FROM result
WHERE attempt_id IN (SELECT value FROM json_each(:attempt_ids)) AND output_text IS NOT NULL;

-- name: details
SELECT request.id, input_row.data, result.output_text, attempt.response_id, iif(:with_bodies, result.body, NULL) AS body
FROM request
JOIN input_row ON input_row.request_id = request.id
LEFT JOIN attempt ON attempt.id = coalesce(request.answered_by, request.id * 1000000 + request.number)
LEFT JOIN result ON result.attempt_id = attempt.id
WHERE request.id IN (SELECT value FROM json_each(:request_ids));

-- name: spent_before
SELECT
  request.id AS request_id, coalesce(sum(charge.cost_pusd), 0) AS cost_pusd,
  count(charge.attempt_id) - count(charge.cost_pusd) AS cost_unknown,
  count(charge.attempt_id) - count(coalesce(charge.cost_pusd, charge.upper_bound_pusd)) AS cost_unbounded,
  coalesce(sum(CASE WHEN charge.cost_pusd IS NULL THEN charge.upper_bound_pusd ELSE 0 END), 0) AS upper_bound_pusd,
  count(charge.input_tokens) AS with_usage,
  coalesce(sum(charge.input_tokens), 0) AS input_tokens, coalesce(sum(charge.cached_tokens), 0) AS cached_tokens,
  coalesce(sum(charge.cache_write_tokens), 0) AS cache_write_tokens,
  coalesce(sum(charge.output_tokens), 0) AS output_tokens,
  coalesce(sum(charge.reasoning_tokens), 0) AS reasoning_tokens,
  coalesce(sum(charge.total_tokens), 0) AS total_tokens,
  coalesce(sum(charge.cache_write_12h_tokens), 0) AS cache_write_12h_tokens, coalesce(max(charge.estimated), 0) AS estimated,
  sum(attempt.possible_duplicate) AS possible_duplicates
FROM json_each(:request_ids) AS wanted
JOIN request ON request.id = wanted.value
JOIN attempt ON attempt.id BETWEEN request.id * 1000000 AND request.id * 1000000 + request.number - 1
LEFT JOIN charge ON charge.attempt_id = attempt.id
GROUP BY request.id;

-- name: request_by_key
SELECT
  request.id, request.key, request.stage, input_row.source, request.state, request.code, request.message,
  input_row.data, request.not_before, request.settled_at, request.max_output_tokens, request.turn,
  request.answered_by, chain_turn.chain, earlier.key AS follows, continuation.fields AS continuation,
  earlier_attempt.response_id AS earlier_response_id, conversation.conversation_id, answering_run.name AS answered_in,
  answering.key AS answered_as
FROM request JOIN input_row ON input_row.request_id = request.id
LEFT JOIN continuation ON continuation.request_id = request.id
LEFT JOIN chain_turn ON chain_turn.request_id = request.id
LEFT JOIN conversation ON conversation.run_id = request.run_id AND conversation.chain = chain_turn.chain
LEFT JOIN request AS earlier ON earlier.id = request.follows
LEFT JOIN attempt AS earlier_attempt ON earlier_attempt.id = earlier.id * 1000000 + earlier.number
LEFT JOIN request AS answering ON answering.id = request.answered_by / 1000000
LEFT JOIN run AS answering_run ON answering_run.id = answering.run_id
WHERE request.run_id = :run_id AND request.stage = :stage AND request.key = :key;

-- name: tool_calls
SELECT * FROM tool_call WHERE attempt_id = :attempt_id ORDER BY place;

-- name: body
SELECT result.output_text, result.body, attempt.response_id
FROM result JOIN attempt ON attempt.id = result.attempt_id
WHERE result.attempt_id = :attempt_id;

-- name: duplicate
-- takes: fingerprint, run_id
SELECT id FROM request
WHERE fingerprint = :fingerprint AND run_id = :run_id AND same_as IS NULL AND answered_by IS NULL
ORDER BY id DESC LIMIT 1;

-- name: earlier_turns
-- The turns before one of a chain, the latest first.
WITH RECURSIVE before (id, follows, depth) AS (
  SELECT id, follows, 0 FROM request WHERE id = (SELECT follows FROM request WHERE id = :request_id)
  UNION ALL
  SELECT request.id, request.follows, depth + 1 FROM request JOIN before ON request.id = before.follows
  WHERE depth + 1 < :limit
)
SELECT input_row.data, input_row.source, result.output_text
FROM before
JOIN request ON request.id = before.id
JOIN input_row ON input_row.request_id = before.id
LEFT JOIN result ON result.attempt_id = request.id * 1000000 + request.number
ORDER BY before.depth;

-- name: attempts
SELECT
  attempt.id, attempt.number, attempt.counted, attempt.idempotency_key, attempt.response_id, attempt.status,
  attempt.http_status, attempt.model, attempt.service_tier, attempt.code, attempt.message, attempt.sent_at,
  attempt.accepted_at, attempt.completed_at, attempt.ended_at, attempt.possible_duplicate, attempt.worst_case_pusd,
  attempt.lane, attempt.endpoint, result.output_text, result.body,
  charge.attempt_id IS NOT NULL AS charged, charge.cost_pusd, charge.upper_bound_pusd, charge.input_tokens,
  charge.cached_tokens, charge.cache_write_tokens, charge.output_tokens, charge.reasoning_tokens, charge.total_tokens,
  charge.cache_write_12h_tokens, charge.web_searches, charge.file_searches, charge.code_sessions,
  charge.image_input_tokens, charge.image_output_tokens, charge.image_pusd,
  price.id AS price_id, price.model AS price_model, price.tier, price.input, price.cached, price.cache_write,
  price.cache_write_12h, price.output, price.source, price.version, price.fee_web_search, price.fee_file_search, price.fee_code_session,
  price.estimated, deleted_copy.deleted_at
FROM attempt
LEFT JOIN result ON result.attempt_id = attempt.id
LEFT JOIN charge ON charge.attempt_id = attempt.id
LEFT JOIN price ON price.id = charge.price_id
LEFT JOIN deleted_copy ON deleted_copy.kind = 'response' AND deleted_copy.provider_id = attempt.response_id
WHERE attempt.id BETWEEN :request_id * 1000000 AND :request_id * 1000000 + 999999
ORDER BY attempt.id;

-- name: costs
-- A grouping that was not asked for is constant, so that one statement serves them all.
SELECT
  CASE WHEN :by_run = 1 THEN run_name ELSE NULL END AS run,
  CASE WHEN :by_model = 1 THEN coalesce(model, 'unknown') ELSE NULL END AS model,
  CASE WHEN :by_tier = 1 THEN coalesce(service_tier, 'unknown') ELSE NULL END AS tier,
  CASE WHEN :by_day = 1 THEN date(charged_at, 'unixepoch') ELSE NULL END AS day,
  CASE WHEN :by_stage = 1 THEN stage ELSE NULL END AS stage,
  CASE WHEN :by_state = 1 THEN state ELSE NULL END AS state,
  CASE WHEN :by_lane = 1 THEN lane ELSE NULL END AS lane,
  CASE WHEN :by_endpoint = 1 THEN coalesce(endpoint, '(one)') ELSE NULL END AS endpoint,
  CASE
    WHEN :paths IS NULL THEN '[]'
    -- For one field, which is the usual case, this is twice as fast.
    WHEN json_array_length(:paths) = 1 THEN json_array(coalesce(json_extract(metadata, :paths ->> 0), '(none)'))
    ELSE (SELECT json_group_array(coalesce(json_extract(metadata, path.value), '(none)')) FROM json_each(:paths) AS path)
  END AS metadata,
  count(*) AS responses, coalesce(sum(input_tokens), 0) AS input_tokens,
  coalesce(sum(cached_tokens), 0) AS cached_tokens, coalesce(sum(cache_write_tokens), 0) AS cache_write_tokens,
  coalesce(sum(output_tokens), 0) AS output_tokens, coalesce(sum(reasoning_tokens), 0) AS reasoning_tokens,
  coalesce(sum(total_tokens), 0) AS total_tokens,
  coalesce(sum(cache_write_12h_tokens), 0) AS cache_write_12h_tokens, coalesce(sum(cost_pusd), 0) AS cost_pusd,
  count(*) - count(cost_pusd) AS cost_unknown,
  coalesce(sum(CASE WHEN cost_pusd IS NULL THEN upper_bound_pusd ELSE 0 END), 0) AS upper_bound_pusd,
  count(*) - count(coalesce(cost_pusd, upper_bound_pusd)) AS cost_unbounded,
  coalesce(sum(CASE WHEN estimated = 1 THEN cost_pusd ELSE 0 END), 0) AS cost_estimated_pusd,
  coalesce(sum(CASE WHEN waste = 'failed' THEN cost_pusd ELSE 0 END), 0) AS wasted_failed,
  coalesce(sum(CASE WHEN waste = 'incomplete' THEN cost_pusd ELSE 0 END), 0) AS wasted_incomplete,
  coalesce(sum(CASE WHEN waste = 'empty' THEN cost_pusd ELSE 0 END), 0) AS wasted_empty,
  coalesce(sum(CASE WHEN waste = 'duplicate' THEN cost_pusd ELSE 0 END), 0) AS wasted_duplicate,
  sum(possible_duplicate) AS possible_duplicates,
  coalesce(sum(CASE WHEN possible_duplicate = 1 AND cost_pusd IS NULL THEN upper_bound_pusd ELSE 0 END), 0)
    AS possible_duplicates_upper_bound_pusd,
  count(CASE WHEN possible_duplicate = 1 AND cost_pusd IS NULL AND upper_bound_pusd IS NULL THEN 1 END)
    AS possible_duplicates_unbounded,
  coalesce(
    sum(
      cached_tokens * (input - cached) - cache_write_tokens * (cache_write - input)
      - cache_write_12h_tokens * (cache_write_12h - cache_write)
    ),
    0
  ) AS cache_saved_pusd
FROM (
  SELECT
    run.name AS run_name, request.stage, request.state, attempt.model, attempt.service_tier, attempt.lane, attempt.endpoint,
    attempt.metadata,
    attempt.possible_duplicate, charge.*, price.input, price.cached, price.cache_write, price.cache_write_12h,
    CASE
      WHEN attempt.code IS NULL THEN NULL
      WHEN attempt.possible_duplicate = 1 THEN 'duplicate'
      WHEN attempt.code = 'empty_output' THEN 'empty'
      WHEN attempt.status = 'incomplete' THEN 'incomplete'
      ELSE 'failed'
    END AS waste
  FROM charge
  JOIN attempt ON attempt.id = charge.attempt_id
  JOIN request ON request.id = attempt.request_id
  JOIN run ON run.id = request.run_id
  LEFT JOIN price ON price.id = charge.price_id
  WHERE (:run_id IS NULL OR run.id = :run_id) AND run.simulated <= :with_simulated
    -- The run's bounds keep it from scanning other runs' charges.
    AND charge.attempt_id >= coalesce((SELECT first_request_id * 1000000 FROM run WHERE id = :run_id), 0)
    AND charge.attempt_id < coalesce(
      (SELECT (last_request_id + 1) * 1000000 FROM run WHERE id = :run_id), 9223372036854775807
    )
) AS charged
GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9;

-- name: uncosted
-- Those that were given up: they may have continued. A response that failed without usage never reports any.
SELECT
  attempt.id AS attempt_id, attempt.response_id, coalesce(attempt.model, '') AS model, attempt.service_tier,
  attempt.completion_window, attempt.sent_at, charge.upper_bound_pusd, attempt.endpoint
FROM charge
JOIN attempt ON attempt.id = charge.attempt_id
JOIN request ON request.id = attempt.request_id
WHERE charge.attempt_id >= (SELECT first_request_id * 1000000 FROM run WHERE id = :run_id)
  AND charge.attempt_id < (SELECT (last_request_id + 1) * 1000000 FROM run WHERE id = :run_id)
  AND request.run_id = :run_id AND charge.cost_pusd IS NULL AND charge.input_tokens IS NULL
  AND attempt.response_id IS NOT NULL AND attempt.shares_response = 0
  AND attempt.code IN ('queued_timeout', 'run_timeout', 'submit_in_doubt')
ORDER BY charge.attempt_id DESC LIMIT :limit;

-- name: past_use
-- By request, all its attempts together; the charges of a run lie side by side.
SELECT
  count(*) AS requests, coalesce(sum(responses), 0) AS responses, coalesce(sum(input_tokens), 0) AS input_tokens,
  coalesce(sum(cached_tokens), 0) AS cached_tokens, coalesce(sum(cache_write_tokens), 0) AS cache_write_tokens,
  coalesce(sum(output_tokens), 0) AS output_tokens, coalesce(sum(output_tokens * output_tokens), 0) AS output_squares,
  coalesce(sum(fees_pusd), 0) AS fees_pusd, coalesce(sum(seconds), 0.0) AS seconds
FROM (
  SELECT
    count(*) AS responses, sum(charge.input_tokens) AS input_tokens, sum(charge.cached_tokens) AS cached_tokens,
    sum(charge.cache_write_tokens) AS cache_write_tokens, sum(charge.output_tokens) AS output_tokens,
    sum(
      charge.web_searches * price.fee_web_search + charge.file_searches * price.fee_file_search
      + charge.code_sessions * price.fee_code_session + charge.image_pusd
    ) AS fees_pusd,
    sum(attempt.ended_at - attempt.sent_at) AS seconds
  FROM charge
  JOIN attempt ON attempt.id = charge.attempt_id
  JOIN request ON request.id = attempt.request_id
  JOIN price ON price.id = charge.price_id
  WHERE charge.attempt_id >= (SELECT first_request_id * 1000000 FROM run WHERE id = :run_id)
    AND charge.attempt_id < (
      SELECT min(last_request_id + 1, first_request_id + :most) * 1000000 FROM run WHERE id = :run_id
    )
    AND request.run_id = :run_id AND request.stage = :stage AND request.settled_at IS NOT NULL
  GROUP BY request.id
) AS answered;

-- name: skipped
SELECT position, source, reason FROM skipped_row WHERE run_id = :run_id ORDER BY position;

-- name: recall
SELECT value FROM memory WHERE name = :name;

-- ── uploads and stream events ──

-- name: upload
SELECT file_id, provider, sha256, name, bytes, uploaded_at FROM upload
WHERE provider = :provider AND sha256 = :sha256
  AND NOT EXISTS (SELECT 1 FROM deleted_copy WHERE kind = 'file' AND provider_id = file_id)
ORDER BY uploaded_at DESC LIMIT 1;

-- name: progress
SELECT sequence, type, item, at FROM progress_event WHERE attempt_id = :attempt_id ORDER BY sequence;

-- name: last_progress
SELECT max(sequence) AS sequence FROM progress_event WHERE attempt_id = :attempt_id;
