-- The lane of each attempt: prices, costs and exports keep lanes apart.

ALTER TABLE attempt ADD COLUMN lane TEXT NOT NULL DEFAULT 'background';

DROP VIEW attempts;

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
    charge.estimated AS cost_estimated, attempt.lane
  FROM attempt
  JOIN request ON request.id = attempt.request_id
  JOIN run ON run.id = request.run_id
  LEFT JOIN charge ON charge.attempt_id = attempt.id
  LEFT JOIN price ON price.id = charge.price_id;
