-- Requests that wait for another one, answers that are shared, and requests of several turns.
-- A CHECK cannot be changed in place, so the table is made again; foreign keys are off while migrations run.

DROP VIEW results;
DROP VIEW attempts;
DROP VIEW costs;

CREATE TABLE request_anew (
  -- One row at one stage: the unit of work. Narrow, because it changes three times or more; its data is in input_row.
  id INTEGER PRIMARY KEY,               -- rises in the order of the input
  run_id INTEGER NOT NULL REFERENCES run,
  stage TEXT NOT NULL,
  key TEXT NOT NULL,
  -- Spelt out with OR here and below: SQLite builds a table for an IN list each time, which cost 8 µs an update.
  state TEXT NOT NULL CHECK (
    state = 'pending' OR state = 'blocked' OR state = 'submitting' OR state = 'submitted' OR state = 'acting'
    OR state = 'in_doubt' OR state = 'succeeded' OR state = 'failed' OR state = 'cancelled'
  ),
  not_before REAL NOT NULL DEFAULT 0,   -- 0: never put off
  attempts INTEGER NOT NULL DEFAULT 0,  -- how many count against retry.attempts in this turn
  number INTEGER NOT NULL DEFAULT 0 CHECK (number < 1000000),  -- of the latest attempt; 0: none yet
  epoch INTEGER NOT NULL DEFAULT 0,     -- rises when a response with an id has ended; part of the idempotency key
  turn INTEGER NOT NULL DEFAULT 0,      -- how often it continued from its own response
  max_output_tokens INTEGER,            -- replaces the job's own from the next attempt on
  code TEXT,                            -- why it failed, was cancelled or is in doubt
  message TEXT,
  settled_at REAL,
  fingerprint BLOB,                     -- of the fields that were sent; duplicates have the same one
  same_as INTEGER REFERENCES request,   -- the earlier duplicate that it waits for, or whose outcome it shares
  -- The attempt of another request whose answer it has; no foreign key, because each attempt that is undone would
  -- then be searched for in all requests.
  answered_by INTEGER,
  follows INTEGER REFERENCES request,   -- the turn before it in its chain
  UNIQUE (run_id, stage, key),
  CHECK ((settled_at IS NOT NULL) = (state = 'succeeded' OR state = 'failed' OR state = 'cancelled')),
  CHECK (answered_by IS NULL OR state = 'succeeded')
) STRICT;

INSERT INTO request_anew (
  id, run_id, stage, key, state, not_before, attempts, number, epoch, max_output_tokens, code, message, settled_at
)
SELECT
  id, run_id, stage, key, state, not_before, attempts, number, epoch, max_output_tokens, code, message, settled_at
FROM request;
DROP TABLE request;
ALTER TABLE request_anew RENAME TO request;

-- Partial indexes stay as small as what is pending or open, however many requests are settled.
CREATE INDEX request_fresh ON request (run_id) WHERE state = 'pending' AND not_before = 0;
CREATE INDEX request_delayed ON request (run_id, not_before) WHERE state = 'pending' AND not_before > 0;
CREATE INDEX request_open ON request (run_id) WHERE settled_at IS NULL AND state <> 'pending' AND state <> 'blocked';
CREATE INDEX request_fingerprint ON request (fingerprint) WHERE fingerprint IS NOT NULL;
CREATE INDEX request_same_as ON request (same_as) WHERE same_as IS NOT NULL;
CREATE INDEX request_follows ON request (follows) WHERE follows IS NOT NULL;

CREATE TABLE continuation (
  -- The fields of the next turn of a request that continues from its own response.
  request_id INTEGER PRIMARY KEY REFERENCES request,
  context_tokens INTEGER NOT NULL,      -- tokens that the model reads again: those of all earlier turns
  fields BLOB NOT NULL                  -- JSON: the fields of the create call that it replaces
) STRICT;

CREATE TABLE tool_call (
  -- The result of a function tool of the user's, on disk before it is sent to the model.
  attempt_id INTEGER NOT NULL REFERENCES attempt,
  call_id TEXT NOT NULL,
  place INTEGER NOT NULL,               -- among the calls of the response
  name TEXT NOT NULL,
  arguments TEXT NOT NULL,              -- JSON as the model wrote it
  output TEXT NOT NULL,
  failed INTEGER NOT NULL CHECK (failed = 0 OR failed = 1),
  started_at REAL NOT NULL,
  ended_at REAL NOT NULL,
  PRIMARY KEY (attempt_id, call_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE chain_turn (
  -- Rows that belong together and are sent in order.
  request_id INTEGER PRIMARY KEY REFERENCES request,
  run_id INTEGER NOT NULL REFERENCES run,
  chain TEXT NOT NULL,
  place ANY                             -- by which the turns of a chain are ordered: a number or a text
) STRICT;

CREATE INDEX chain_turns ON chain_turn (run_id, chain);

CREATE TABLE conversation (
  -- The provider's conversation object of a chain.
  run_id INTEGER NOT NULL REFERENCES run,
  chain TEXT NOT NULL,
  conversation_id TEXT NOT NULL,
  PRIMARY KEY (run_id, chain)
) STRICT, WITHOUT ROWID;

CREATE VIEW results AS
  -- One line per request: its outcome, and the cost of all its attempts together. The cost is NULL while one of them is
  -- open, and if the cost of one is unknown. Dollars are exact text; cost_pusd is for sums.
  SELECT
    run, key, state, output_text, code, message, response_id, model, attempts, reused,
    iif(
      cost_pusd IS NULL, NULL,
      rtrim(rtrim(printf('%d.%012d', cost_pusd / 1000000000000, cost_pusd % 1000000000000), '0'), '.')
    ) AS cost_usd,
    cost_pusd, sent, settled, source
  FROM (
    SELECT
      run.name AS run, request.key, request.state, result.output_text, request.code, request.message,
      attempt.response_id, attempt.model, request.number AS attempts,
      request.answered_by IS NOT NULL AS reused,
      (
        SELECT iif(
          (request.settled_at IS NOT NULL OR request.state = 'pending' OR request.state = 'blocked' OR request.state = 'acting') AND count(*) = count(cost_pusd),
          coalesce(sum(cost_pusd), 0), NULL
        )
        FROM charge WHERE attempt_id BETWEEN request.id * 1000000 AND request.id * 1000000 + 999999
      ) AS cost_pusd,
      datetime(attempt.sent_at, 'unixepoch') AS sent, datetime(request.settled_at, 'unixepoch') AS settled,
      input_row.source
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
    charge.cost_pusd, price.source AS price_source, price.version AS price_version, attempt.idempotency_key
  FROM attempt
  JOIN request ON request.id = attempt.request_id
  JOIN run ON run.id = request.run_id
  LEFT JOIN charge ON charge.attempt_id = attempt.id
  LEFT JOIN price ON price.id = charge.price_id;

CREATE VIEW costs AS
  -- What each run spent, by model and tier: the exact known cost, and separately the unknown one.
  SELECT
    run, model, service_tier, responses, input_tokens, cached_tokens, output_tokens, reasoning_tokens,
    rtrim(rtrim(printf('%d.%012d', cost_pusd / 1000000000000, cost_pusd % 1000000000000), '0'), '.') AS cost_usd,
    cost_pusd, cost_unknown,
    rtrim(
      rtrim(printf('%d.%012d', upper_bound_pusd / 1000000000000, upper_bound_pusd % 1000000000000), '0'), '.'
    ) AS cost_unknown_at_most_usd
  FROM (
    SELECT
      run.name AS run, attempt.model, attempt.service_tier, count(*) AS responses,
      sum(charge.input_tokens) AS input_tokens, sum(charge.cached_tokens) AS cached_tokens,
      sum(charge.output_tokens) AS output_tokens, sum(charge.reasoning_tokens) AS reasoning_tokens,
      coalesce(sum(charge.cost_pusd), 0) AS cost_pusd, sum(charge.cost_pusd IS NULL) AS cost_unknown,
      coalesce(sum(iif(charge.cost_pusd IS NULL, charge.upper_bound_pusd, 0)), 0) AS upper_bound_pusd
    FROM charge
    JOIN attempt ON attempt.id = charge.attempt_id
    JOIN request ON request.id = attempt.request_id
    JOIN run ON run.id = request.run_id
    GROUP BY run.id, attempt.model, attempt.service_tier
  );
