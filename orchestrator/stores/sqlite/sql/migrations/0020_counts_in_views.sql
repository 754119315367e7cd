-- Views that DuckDB reads too: it would turn count(*) into a function that SQLite does not have.

DROP VIEW costs;
DROP VIEW results;
DROP VIEW stages;

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
      run.name AS run, attempt.model, attempt.service_tier, count(1) AS responses,
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
    cost_pusd, sent, settled, source, cost_estimated, stage, rows_missing
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
          ) AND count(1) = count(cost_pusd),
          coalesce(sum(cost_pusd), 0), NULL
        )
        FROM charge WHERE attempt_id BETWEEN request.id * 1000000 AND request.id * 1000000 + 999999
      ) AS cost_pusd,
      datetime(attempt.sent_at, 'unixepoch') AS sent, datetime(request.settled_at, 'unixepoch') AS settled,
      input_row.source, request.stage, request.rows_missing,
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

CREATE VIEW stages AS
  -- What each stage of each run has asked and spent; a run without stages has one, main.
  SELECT
    run, stage, requests, succeeded, failed, partial, responses,
    rtrim(rtrim(printf('%d.%012d', cost_pusd / 1000000000000, cost_pusd % 1000000000000), '0'), '.') AS cost_usd,
    cost_pusd, cost_unknown
  FROM (
    SELECT
      run.name AS run, request.stage, count(1) AS requests, sum(request.state = 'succeeded') AS succeeded,
      sum(request.state = 'failed') AS failed, sum(request.rows_missing > 0) AS partial,
      coalesce(sum(spent.responses), 0) AS responses, coalesce(sum(spent.cost_pusd), 0) AS cost_pusd,
      coalesce(sum(spent.cost_unknown), 0) AS cost_unknown
    FROM request
    JOIN run ON run.id = request.run_id
    LEFT JOIN (
      SELECT
        attempt.request_id, count(1) AS responses, sum(charge.cost_pusd) AS cost_pusd,
        count(1) - count(charge.cost_pusd) AS cost_unknown
      FROM charge JOIN attempt ON attempt.id = charge.attempt_id
      GROUP BY attempt.request_id
    ) AS spent ON spent.request_id = request.id
    GROUP BY run.id, request.stage
  );
