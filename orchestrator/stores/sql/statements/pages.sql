-- What the web view reads. Each search has a range of request ids, so that one statement never scans a whole run.

-- name: run_page
SELECT id FROM run WHERE :before_id IS NULL OR id < :before_id ORDER BY id DESC LIMIT :limit;

-- name: request_bounds
SELECT first_request_id, last_request_id FROM run WHERE id = :run_id;

-- name: search
-- The plus keeps the planner from walking all keys of the run.
SELECT request.id FROM request
LEFT JOIN attempt ON :pattern IS NOT NULL AND attempt.id = coalesce(request.answered_by, request.id * 1000000 + request.number)
LEFT JOIN result ON result.attempt_id = attempt.id
WHERE request.id BETWEEN :first_id AND :last_id AND +request.run_id = :run_id
  AND (:states IS NULL OR :states LIKE '% ' || request.state || ' %')
  AND (:code IS NULL OR request.code = :code) AND (:stage IS NULL OR request.stage = :stage)
  AND (:flag IS NULL OR EXISTS (SELECT 1 FROM flag WHERE flag.request_id = request.id AND flag.flag = :flag))
  AND (
    :pattern IS NULL OR request.key LIKE :pattern ESCAPE '\' OR request.code LIKE :pattern ESCAPE '\'
    OR request.message LIKE :pattern ESCAPE '\' OR result.output_text LIKE :pattern ESCAPE '\'
  )
ORDER BY request.id LIMIT :limit;

-- name: top_rows
-- Each of the sums is over all attempts of a request; the latency is that of the latest.
SELECT request.id FROM request
JOIN attempt ON attempt.id = request.id * 1000000 + request.number
LEFT JOIN result ON :pattern IS NOT NULL AND result.attempt_id = coalesce(request.answered_by, attempt.id)
WHERE request.id BETWEEN :first_id AND :last_id AND +request.run_id = :run_id
  AND (:states IS NULL OR :states LIKE '% ' || request.state || ' %')
  AND (:code IS NULL OR request.code = :code) AND (:stage IS NULL OR request.stage = :stage)
  AND (:flag IS NULL OR EXISTS (SELECT 1 FROM flag WHERE flag.request_id = request.id AND flag.flag = :flag))
  AND (
    :pattern IS NULL OR request.key LIKE :pattern ESCAPE '\' OR request.code LIKE :pattern ESCAPE '\'
    OR request.message LIKE :pattern ESCAPE '\' OR result.output_text LIKE :pattern ESCAPE '\'
  )
ORDER BY CASE :sort_by
  WHEN 'latency' THEN request.settled_at - attempt.sent_at
  ELSE (
    SELECT iif(:sort_by = 'cost', sum(cost_pusd), sum(total_tokens)) FROM charge
    WHERE charge.attempt_id BETWEEN request.id * 1000000 AND request.id * 1000000 + 999999
  )
END DESC NULLS LAST, request.id LIMIT :limit;

-- name: codes
SELECT code, count(*) AS requests FROM request WHERE run_id = :run_id AND state = 'failed' GROUP BY code;

-- name: failed_after
SELECT id FROM request INDEXED BY request_failed
WHERE run_id = :run_id AND state = 'failed' AND code IS :code AND id BETWEEN :first_id AND :last_id
ORDER BY id;

-- name: failed_before
SELECT id FROM request INDEXED BY request_failed
WHERE run_id = :run_id AND state = 'failed' AND code IS :code AND id BETWEEN :first_id AND :last_id
ORDER BY id DESC;

-- name: open_requests
-- No more than are in flight at once.
SELECT id FROM request
WHERE run_id = :run_id AND settled_at IS NULL AND state <> 'pending' AND state <> 'blocked'
  AND id BETWEEN :first_id AND :last_id;

-- name: flagged
SELECT request_id AS id FROM flag
WHERE run_id = :run_id AND flag = :flag AND request_id BETWEEN :first_id AND :last_id;

-- name: compare
-- The first of each pair; the second run's row is found by its key.
SELECT one.id, other.id FROM request AS one
LEFT JOIN request AS other ON other.run_id = :other_run_id AND other.stage = one.stage AND other.key = one.key
LEFT JOIN result AS one_result
  ON :answers = 1 AND one_result.attempt_id = coalesce(one.answered_by, one.id * 1000000 + one.number)
LEFT JOIN result AS other_result
  ON :answers = 1 AND other_result.attempt_id = coalesce(other.answered_by, other.id * 1000000 + other.number)
WHERE one.id BETWEEN :first_id AND :last_id AND +one.run_id = :run_id
  AND (:answers = 0 OR one_result.output_text IS NOT other_result.output_text)
  AND (:outcomes = 0 OR one.state IS NOT other.state)
ORDER BY one.id LIMIT :limit;

-- name: row_name
SELECT stage, key FROM request WHERE id = :request_id AND run_id = :run_id;

-- name: before_in_queue
SELECT count(*) AS requests FROM (
  SELECT 1 FROM request
  WHERE request.run_id = :run_id AND request.state = 'pending' AND request.not_before = 0 AND request.stage = :stage
    AND request.id < :request_id
  LIMIT :most
) AS before;

-- name: flags
SELECT flag, count(*) AS requests FROM flag WHERE run_id = :run_id GROUP BY flag ORDER BY flag;

-- name: pulses
SELECT at, settled, failed, in_flight, attempts, polls, rate_limited, cost_pusd FROM pulse
WHERE run_id = :run_id ORDER BY number;

-- name: latencies
-- Of the latest attempt of each row that has succeeded; reused answers have none.
SELECT CAST(round(100 * max(request.settled_at - attempt.sent_at, 0)) AS BIGINT) AS hundredths, count(*) AS requests
FROM request JOIN attempt ON attempt.id = request.id * 1000000 + request.number
WHERE request.id BETWEEN (SELECT first_request_id FROM run WHERE id = :run_id)
    AND (SELECT last_request_id FROM run WHERE id = :run_id)
  AND +request.run_id = :run_id AND request.state = 'succeeded'
GROUP BY 1 ORDER BY 1;

-- name: prices_used
-- The attempts of a run are those of the range of its requests; another run may have requests in that range.
SELECT price.model, price.tier, price.input, price.cached, price.output, price.source, price.version,
  count(*) AS charges
FROM charge JOIN request ON request.id = charge.attempt_id / 1000000 JOIN price ON price.id = charge.price_id
WHERE charge.attempt_id >= (SELECT first_request_id FROM run WHERE id = :run_id) * 1000000
  AND charge.attempt_id < ((SELECT last_request_id FROM run WHERE id = :run_id) + 1) * 1000000
  AND request.run_id = :run_id
GROUP BY price.id ORDER BY count(*) DESC, price.id;
