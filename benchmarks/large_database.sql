-- Two large runs as SQLite writes them: of a thousand rows the last fifty wait, and of the others ten failed with three
-- codes and ten were sent twice.

-- name: price
INSERT OR IGNORE INTO price (
  id, model, tier, input, cached, cache_write, cache_write_12h, output, fee_web_search, fee_file_search,
  fee_code_session, source, version, estimated
)
VALUES (1, 'gpt-5-mini', 'default', 250000, 25000, 0, 500000, 2000000, 0, 0, 0, 'published', '1', 0);

-- name: requests
WITH RECURSIVE
  line (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM line WHERE n + 1 < :rows),
  settled (n, state) AS (
    SELECT n, iif(n >= :rows * 19 / 20, 'pending', iif(n % 100 = 7, 'failed', 'succeeded')) FROM line
  )
INSERT INTO request (
  id, run_id, stage, key, state, attempts, number, code, message, settled_at, fingerprint
)
SELECT
  :first + n, :run_id, 'main', printf('row-%07d', n), state, 1, iif(state = 'pending', 0, 1 + (n % 100 = 3)),
  CASE
    WHEN state <> 'failed' THEN NULL
    WHEN n % 1000 = 7 THEN 'server_error'
    WHEN n % 1000 = 107 THEN 'max_output_tokens'
    ELSE 'refusal'
  END,
  iif(state = 'failed', 'It was refused.', NULL), iif(state = 'pending', NULL, :at + n / 100.0 + 5), randomblob(16)
FROM settled;

-- name: input_rows
INSERT INTO input_row
SELECT
  id, id - :first, printf('rows.jsonl:%d', id - :first + 1), json_object('id', key, 'text', :text || key)
FROM request WHERE run_id = :run_id;

-- name: attempts
INSERT INTO attempt (
  id, idempotency_key, model, service_tier, sent_at, accepted_at, response_id, status, completed_at, ended_at, code
)
SELECT
  id * 1000000 + 1, printf('%d-1', id), 'gpt-5-mini-2025-08-07', 'default', settled_at - 5, settled_at - 4.9,
  printf('resp_%032x1', id), 'completed', settled_at - 1, settled_at, code
FROM request WHERE run_id = :run_id AND number > 0;

-- name: second_attempts
INSERT INTO attempt (
  id, idempotency_key, model, service_tier, sent_at, accepted_at, response_id, status, completed_at, ended_at
)
SELECT
  id * 1000000 + 2, printf('%d-2', id), 'gpt-5-mini-2025-08-07', 'default', settled_at - 5, settled_at - 4.9,
  printf('resp_%032x2', id), 'completed', settled_at - 1, settled_at
FROM request WHERE run_id = :run_id AND number > 1;

-- name: charges
INSERT INTO charge (
  attempt_id, charged_at, cost_pusd, price_id, input_tokens, cached_tokens, cache_write_tokens, output_tokens,
  reasoning_tokens, total_tokens
)
SELECT
  id, ended_at, 100 * 250000 + (id / 1000000) % 300 * 2000000, 1, 100, 0, 0, (id / 1000000) % 300, 0,
  100 + (id / 1000000) % 300
FROM attempt WHERE id BETWEEN :first * 1000000 AND (:first + :rows) * 1000000;

-- name: answers
INSERT INTO result
SELECT id, :text || ' Row ' || (id / 1000000) || ' of ' || :name, NULL
FROM attempt WHERE id BETWEEN :first * 1000000 AND (:first + :rows) * 1000000;

-- name: tally
INSERT INTO tally SELECT run_id, stage, state, count(*) FROM request WHERE run_id = :run_id GROUP BY stage, state;

-- name: totals
UPDATE run_total SET (attempts, cost_pusd, input_tokens, output_tokens, total_tokens, elapsed_s) = (
  SELECT
    count(*), coalesce(sum(cost_pusd), 0), coalesce(sum(input_tokens), 0), coalesce(sum(output_tokens), 0),
    coalesce(sum(total_tokens), 0), 3600
  FROM charge
  WHERE attempt_id BETWEEN :first * 1000000 AND (:first + :rows) * 1000000
)
WHERE run_id = :run_id;

-- name: bounds
UPDATE run SET
  first_request_id = :first, last_request_id = :first + :rows - 1, planned_position = :rows, planned_complete = 1
WHERE id = :run_id;

-- name: flags
INSERT INTO flag SELECT id, run_id, 'check', 'odd', :at FROM request WHERE run_id = :run_id AND id % 5000 = 3;

-- name: pulses
WITH RECURSIVE line (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM line WHERE n + 1 < 2000)
INSERT INTO pulse SELECT :run_id, n, :at + 5 * n, n * :rows / 2000, n, 200, n, n, 0, n * 1000000 FROM line;
