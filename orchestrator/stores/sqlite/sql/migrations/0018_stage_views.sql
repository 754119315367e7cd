-- Views that distinguish the stages of a run.

DROP VIEW results;
DROP VIEW attempts;

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
          ) AND count(*) = count(cost_pusd),
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
    charge.estimated AS cost_estimated, attempt.lane, request.stage
  FROM attempt
  JOIN request ON request.id = attempt.request_id
  JOIN run ON run.id = request.run_id
  LEFT JOIN charge ON charge.attempt_id = attempt.id
  LEFT JOIN price ON price.id = charge.price_id;

CREATE VIEW stages AS
  -- What each stage of each run has asked and spent; a run without stages has one, main.
  SELECT
    run, stage, requests, succeeded, failed, partial, responses,
    rtrim(rtrim(printf('%d.%012d', cost_pusd / 1000000000000, cost_pusd % 1000000000000), '0'), '.') AS cost_usd,
    cost_pusd, cost_unknown
  FROM (
    SELECT
      run.name AS run, request.stage, count(*) AS requests, sum(request.state = 'succeeded') AS succeeded,
      sum(request.state = 'failed') AS failed, sum(request.rows_missing > 0) AS partial,
      coalesce(sum(spent.responses), 0) AS responses, coalesce(sum(spent.cost_pusd), 0) AS cost_pusd,
      coalesce(sum(spent.cost_unknown), 0) AS cost_unknown
    FROM request
    JOIN run ON run.id = request.run_id
    LEFT JOIN (
      SELECT
        attempt.request_id, count(*) AS responses, sum(charge.cost_pusd) AS cost_pusd,
        count(*) - count(charge.cost_pusd) AS cost_unknown
      FROM charge JOIN attempt ON attempt.id = charge.attempt_id
      GROUP BY attempt.request_id
    ) AS spent ON spent.request_id = request.id
    GROUP BY run.id, request.stage
  );
