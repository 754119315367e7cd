-- Tokens that are billed apart: written to the cache for twelve hours, and those of generated images.

-- Inside cache_write_tokens.
ALTER TABLE charge ADD COLUMN cache_write_12h_tokens INTEGER NOT NULL DEFAULT 0;
-- Of image generation, not part of the usage; and what they cost, which is part of cost_pusd.
ALTER TABLE charge ADD COLUMN image_input_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE charge ADD COLUMN image_output_tokens INTEGER NOT NULL DEFAULT 0;
ALTER TABLE charge ADD COLUMN image_pusd INTEGER NOT NULL DEFAULT 0 CHECK (image_pusd >= 0);

ALTER TABLE run_total ADD COLUMN cache_write_12h_tokens INTEGER NOT NULL DEFAULT 0;

-- A price is unique by all its columns, and a constraint cannot be changed in place, so the table is made again.
DROP VIEW attempts;

CREATE TABLE price_anew (
  -- Unit prices behind charges, in picodollars a token, a call or a session; each set is kept once.
  id INTEGER PRIMARY KEY,
  model TEXT NOT NULL,
  tier TEXT NOT NULL,
  input INTEGER NOT NULL,
  cached INTEGER NOT NULL,
  cache_write INTEGER NOT NULL,
  cache_write_12h INTEGER NOT NULL,
  output INTEGER NOT NULL,
  fee_web_search INTEGER NOT NULL,
  fee_file_search INTEGER NOT NULL,
  fee_code_session INTEGER NOT NULL,
  source TEXT NOT NULL,
  version TEXT NOT NULL,
  estimated INTEGER NOT NULL CHECK (estimated = 0 OR estimated = 1),  -- 1: inferred, not published for this model
  UNIQUE (
    model, tier, input, cached, cache_write, cache_write_12h, output, fee_web_search, fee_file_search,
    fee_code_session, source, version, estimated
  )
) STRICT;

INSERT INTO price_anew (
  id, model, tier, input, cached, cache_write, cache_write_12h, output, fee_web_search, fee_file_search,
  fee_code_session, source, version, estimated
)
SELECT
  id, model, tier, input, cached, cache_write, max(2 * input, cache_write), output, fee_web_search, fee_file_search,
  fee_code_session, source, version, estimated
FROM price;
DROP TABLE price;
ALTER TABLE price_anew RENAME TO price;

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
