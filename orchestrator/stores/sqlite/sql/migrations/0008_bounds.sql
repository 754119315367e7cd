-- Unknown costs without a bound are counted apart, and charges by an estimated price are marked.

-- 1: the price was inferred, or what was used could not be counted exactly.
ALTER TABLE charge ADD COLUMN estimated INTEGER NOT NULL DEFAULT 0 CHECK (estimated = 0 OR estimated = 1);

UPDATE charge SET estimated = 1 WHERE price_id IN (SELECT id FROM price WHERE price.estimated);

-- Responses of unknown cost for which no bound is known; the sums of bounds do not include them.
ALTER TABLE run_total ADD COLUMN cost_unbounded INTEGER NOT NULL DEFAULT 0 CHECK (cost_unbounded >= 0);
ALTER TABLE run_total ADD COLUMN possible_duplicates_unbounded INTEGER NOT NULL DEFAULT 0;
-- Part of cost_pusd.
ALTER TABLE run_total ADD COLUMN cost_estimated_pusd INTEGER NOT NULL DEFAULT 0 CHECK (cost_estimated_pusd >= 0);

UPDATE run_total SET (cost_unbounded, possible_duplicates_unbounded, cost_estimated_pusd) = (
  SELECT
    count(*) - count(coalesce(charge.cost_pusd, charge.upper_bound_pusd)),
    coalesce(
      sum(charge.cost_pusd IS NULL AND charge.upper_bound_pusd IS NULL AND attempt.possible_duplicate), 0
    ),
    coalesce(sum(iif(charge.estimated, charge.cost_pusd, 0)), 0)
  FROM run
  JOIN charge ON charge.attempt_id BETWEEN run.first_request_id * 1000000 AND run.last_request_id * 1000000 + 999999
  JOIN attempt ON attempt.id = charge.attempt_id
  JOIN request ON request.id = attempt.request_id AND request.run_id = run.id
  WHERE run.id = run_total.run_id
);

DROP VIEW results;
DROP VIEW attempts;
DROP VIEW costs;

CREATE VIEW results AS
  -- One line per request: its outcome, and the cost of all its attempts together. The cost is NULL while one of them is
  -- open, and if the cost of one is unknown; cost_estimated is 1 if the cost of one is estimated. Dollars are exact text;
  -- cost_pusd is for sums.
  SELECT
    run, key, state, output_text, code, message, response_id, model, attempts, reused,
    iif(
      cost_pusd IS NULL, NULL,
      rtrim(rtrim(printf('%d.%012d', cost_pusd / 1000000000000, cost_pusd % 1000000000000), '0'), '.')
    ) AS cost_usd,
    cost_pusd, sent, settled, source, cost_estimated
  FROM (
    SELECT
      run.name AS run, request.key, request.state, result.output_text, request.code, request.message,
      attempt.response_id, attempt.model, request.number AS attempts,
      request.answered_by IS NOT NULL AS reused,
      (
        SELECT iif(
          (
            request.settled_at IS NOT NULL OR request.state = 'pending' OR request.state = 'blocked'
            OR request.state = 'acting'
          ) AND count(*) = count(cost_pusd),
          coalesce(sum(cost_pusd), 0), NULL
        )
        FROM charge WHERE attempt_id BETWEEN request.id * 1000000 AND request.id * 1000000 + 999999
      ) AS cost_pusd,
      datetime(attempt.sent_at, 'unixepoch') AS sent, datetime(request.settled_at, 'unixepoch') AS settled,
      input_row.source,
      (
        SELECT coalesce(max(estimated), 0)
        FROM charge WHERE attempt_id BETWEEN request.id * 1000000 AND request.id * 1000000 + 999999
      ) AS cost_estimated
    FROM request
    JOIN run ON run.id = request.run_id
    JOIN input_row ON input_row.request_id = request.id
    LEFT JOIN attempt ON attempt.id = coalesce(request.answered_by, request.id * 1000000 + request.number)
    LEFT JOIN result ON result.attempt_id = attempt.id
  );

CREATE VIEW attempts AS
  -- One line per attempt, with the provider's status and its charge. Times are UTC.
  SELECT
    run.name AS run, request.key, attempt.number, attempt.status, attempt.code, attempt.message,
    attempt.response_id, attempt.model, attempt.service_tier,
    datetime(attempt.sent_at, 'unixepoch') AS sent, datetime(attempt.accepted_at, 'unixepoch') AS accepted,
    datetime(attempt.ended_at, 'unixepoch') AS ended, attempt.counted, attempt.possible_duplicate,
    charge.input_tokens, charge.cached_tokens, charge.output_tokens, charge.reasoning_tokens,
    iif(
      charge.cost_pusd IS NULL, NULL,
      rtrim(rtrim(printf('%d.%012d', charge.cost_pusd / 1000000000000, charge.cost_pusd % 1000000000000), '0'), '.')
    ) AS cost_usd,
    charge.cost_pusd, price.source AS price_source, price.version AS price_version, attempt.idempotency_key,
    charge.estimated AS cost_estimated
  FROM attempt
  JOIN request ON request.id = attempt.request_id
  JOIN run ON run.id = request.run_id
  LEFT JOIN charge ON charge.attempt_id = attempt.id
  LEFT JOIN price ON price.id = charge.price_id;

CREATE VIEW costs AS
  -- What each run spent, by model and tier: the exact known cost, and separately the unknown one. The most
  -- that this can be is NULL if no bound is known for one response; the estimated cost is part of the known one.
  SELECT
    run, model, service_tier, responses, input_tokens, cached_tokens, output_tokens, reasoning_tokens,
    rtrim(rtrim(printf('%d.%012d', cost_pusd / 1000000000000, cost_pusd % 1000000000000), '0'), '.') AS cost_usd,
    cost_pusd, cost_unknown,
    iif(
      cost_unbounded > 0, NULL,
      rtrim(rtrim(printf('%d.%012d', upper_bound_pusd / 1000000000000, upper_bound_pusd % 1000000000000), '0'), '.')
    ) AS cost_unknown_at_most_usd,
    cost_unbounded,
    rtrim(
      rtrim(printf('%d.%012d', estimated_pusd / 1000000000000, estimated_pusd % 1000000000000), '0'), '.'
    ) AS cost_estimated_usd
  FROM (
    SELECT
      run.name AS run, attempt.model, attempt.service_tier, count(*) AS responses,
      sum(charge.input_tokens) AS input_tokens, sum(charge.cached_tokens) AS cached_tokens,
      sum(charge.output_tokens) AS output_tokens, sum(charge.reasoning_tokens) AS reasoning_tokens,
      coalesce(sum(charge.cost_pusd), 0) AS cost_pusd, sum(charge.cost_pusd IS NULL) AS cost_unknown,
      coalesce(sum(iif(charge.cost_pusd IS NULL, charge.upper_bound_pusd, 0)), 0) AS upper_bound_pusd,
      sum(charge.cost_pusd IS NULL AND charge.upper_bound_pusd IS NULL) AS cost_unbounded,
      coalesce(sum(iif(charge.estimated, charge.cost_pusd, 0)), 0) AS estimated_pusd
    FROM charge
    JOIN attempt ON attempt.id = charge.attempt_id
    JOIN request ON request.id = attempt.request_id
    JOIN run ON run.id = request.run_id
    GROUP BY run.id, attempt.model, attempt.service_tier
  );
