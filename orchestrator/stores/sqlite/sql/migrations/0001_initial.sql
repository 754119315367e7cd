-- The first version of the schema. Its statements are never edited: a change is a new numbered file beside this one.
-- Comments inside a CREATE TABLE stay in the database: `.schema` in the sqlite3 shell shows them.

CREATE TABLE run (
  -- One execution of a job. Times are Unix seconds everywhere; money (_pusd) is picodollars, 1e-12 USD.
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,            -- what commands call it
  uid TEXT NOT NULL UNIQUE,             -- unique beyond this database; part of the idempotency keys
  job TEXT NOT NULL,
  spec TEXT NOT NULL CHECK (json_valid(spec)),  -- the job file as it was loaded
  fingerprint TEXT NOT NULL,            -- of all that decides the requests: a run is not resumed with another one
  input_identity TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state = 'active' OR state = 'finished' OR state = 'halted' OR state = 'cancelled'),
  reason TEXT,                          -- why it halted
  budget_pusd INTEGER CHECK (budget_pusd >= 0),
  deadline_at REAL,
  created_at REAL NOT NULL,
  ended_at REAL,
  cancel_requested INTEGER NOT NULL DEFAULT 0 CHECK (cancel_requested = 0 OR cancel_requested = 1),
  planned_position INTEGER NOT NULL DEFAULT 0,  -- the number of input rows read so far
  planned_complete INTEGER NOT NULL DEFAULT 0 CHECK (planned_complete = 0 OR planned_complete = 1),
  first_request_id INTEGER,             -- the run's requests lie between these two ids,
  last_request_id INTEGER               -- so that reading one run never scans another
) STRICT;

CREATE TABLE request (
  -- One row at one stage: the unit of work. Narrow, because it changes three times or more; its data is in input_row.
  id INTEGER PRIMARY KEY,               -- rises in the order of the input
  run_id INTEGER NOT NULL REFERENCES run,
  stage TEXT NOT NULL,
  key TEXT NOT NULL,
  -- Spelt out with OR here and below: SQLite builds a table for an IN list each time, which cost 8 µs an update.
  state TEXT NOT NULL CHECK (
    state = 'pending' OR state = 'submitting' OR state = 'submitted' OR state = 'in_doubt'
    OR state = 'succeeded' OR state = 'failed' OR state = 'cancelled'
  ),
  not_before REAL NOT NULL DEFAULT 0,   -- 0: never put off
  attempts INTEGER NOT NULL DEFAULT 0,  -- how many count against retry.attempts
  number INTEGER NOT NULL DEFAULT 0 CHECK (number < 1000000),  -- of the latest attempt; 0: none yet
  epoch INTEGER NOT NULL DEFAULT 0,     -- rises when a response with an id has ended; part of the idempotency key
  max_output_tokens INTEGER,            -- replaces the job's own from the next attempt on
  code TEXT,                            -- why it failed, was cancelled or is in doubt
  message TEXT,
  settled_at REAL,
  UNIQUE (run_id, stage, key),
  CHECK ((settled_at IS NOT NULL) = (state = 'succeeded' OR state = 'failed' OR state = 'cancelled'))
) STRICT;

-- Partial indexes stay as small as what is pending or open, however many requests are settled.
CREATE INDEX request_fresh ON request (run_id) WHERE state = 'pending' AND not_before = 0;
CREATE INDEX request_delayed ON request (run_id, not_before) WHERE state = 'pending' AND not_before > 0;
CREATE INDEX request_open ON request (run_id) WHERE settled_at IS NULL AND state <> 'pending';

CREATE TABLE input_row (
  -- What was read from the input for a request; written once.
  request_id INTEGER PRIMARY KEY REFERENCES request,
  position INTEGER NOT NULL,            -- the row's place in the input, from 0
  source TEXT NOT NULL,                 -- where a person finds it, such as file:line
  data ANY NOT NULL                     -- the columns that the job uses: JSON as TEXT, or a compressed BLOB if long
) STRICT;

CREATE TABLE skipped_row (
  -- A bad input row that input.on_bad_row: skip left out.
  run_id INTEGER NOT NULL REFERENCES run,
  position INTEGER NOT NULL,
  source TEXT NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (run_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt (
  -- One try at a request, written before it is sent. The attempts of a request lie side by side, and finding the
  -- latest one takes no index: its id is request_id * 1000000 + number.
  id INTEGER PRIMARY KEY,
  request_id INTEGER NOT NULL GENERATED ALWAYS AS (id / 1000000) VIRTUAL REFERENCES request,
  number INTEGER NOT NULL GENERATED ALWAYS AS (id % 1000000) VIRTUAL CHECK (number > 0),
  idempotency_key TEXT NOT NULL,
  model TEXT,                           -- as asked for; as the provider echoed it once the response has ended
  service_tier TEXT,                    -- the same
  completion_window TEXT,               -- that was asked for
  worst_case_pusd INTEGER CHECK (worst_case_pusd >= 0),  -- set aside while it is open; NULL: no price is known
  sent_at REAL NOT NULL,
  accepted_at REAL,                     -- when the response id arrived
  response_id TEXT,
  -- 1: the provider named a response that an earlier attempt holds (a cache did): it is not charged again.
  shares_response INTEGER NOT NULL DEFAULT 0 CHECK (shares_response = 0 OR shares_response = 1),
  status TEXT,                          -- the provider's word, verbatim
  http_status INTEGER,                  -- of a refusal
  completed_at REAL,                    -- the provider's time
  ended_at REAL,                        -- NULL: open
  code TEXT,
  message TEXT,
  counted INTEGER NOT NULL DEFAULT 1 CHECK (counted = 0 OR counted = 1),  -- against retry.attempts
  -- 1: a response with an unknown id may exist, and the request was sent again.
  possible_duplicate INTEGER NOT NULL DEFAULT 0 CHECK (possible_duplicate = 0 OR possible_duplicate = 1),
  CHECK (shares_response = 0 OR response_id IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX attempt_response ON attempt (response_id) WHERE shares_response = 0;

CREATE TABLE price (
  -- Unit prices behind charges, in picodollars a token, a call or a session; each set is kept once.
  id INTEGER PRIMARY KEY,
  model TEXT NOT NULL,
  tier TEXT NOT NULL,
  input INTEGER NOT NULL,
  cached INTEGER NOT NULL,
  cache_write INTEGER NOT NULL,
  output INTEGER NOT NULL,
  fee_web_search INTEGER NOT NULL,
  fee_file_search INTEGER NOT NULL,
  fee_code_session INTEGER NOT NULL,
  source TEXT NOT NULL,
  version TEXT NOT NULL,
  estimated INTEGER NOT NULL CHECK (estimated = 0 OR estimated = 1),  -- 1: inferred, not published for this model
  UNIQUE (
    model, tier, input, cached, cache_write, output, fee_web_search, fee_file_search, fee_code_session,
    source, version, estimated
  )
) STRICT;

CREATE TABLE charge (
  -- What one attempt cost: at most one charge an attempt, and so at most one a response.
  attempt_id INTEGER PRIMARY KEY REFERENCES attempt,
  charged_at REAL NOT NULL,
  cost_pusd INTEGER CHECK (cost_pusd >= 0),  -- NULL: unknown, never 0; then upper_bound_pusd is the most it can be
  upper_bound_pusd INTEGER CHECK (upper_bound_pusd >= 0),
  price_id INTEGER REFERENCES price,
  input_tokens INTEGER,                 -- usage as reported; all NULL where none was
  cached_tokens INTEGER,                -- inside input_tokens
  cache_write_tokens INTEGER,           -- inside input_tokens
  output_tokens INTEGER,
  reasoning_tokens INTEGER,             -- inside output_tokens
  total_tokens INTEGER,
  web_searches INTEGER NOT NULL DEFAULT 0,
  file_searches INTEGER NOT NULL DEFAULT 0,
  code_sessions INTEGER NOT NULL DEFAULT 0,
  CHECK ((input_tokens IS NULL) = (total_tokens IS NULL))
) STRICT;

CREATE INDEX charge_time ON charge (charged_at, cost_pusd, upper_bound_pusd);

CREATE TABLE result (
  -- What a response said.
  attempt_id INTEGER PRIMARY KEY REFERENCES attempt,
  output_text TEXT,
  body BLOB                             -- the response as received, compressed with output_text as a dictionary:
                                        -- read it with `orchestrator show RUN KEY --raw`
) STRICT;

CREATE TABLE memory (
  -- What runs have learned about the provider, such as latencies; the next run starts with it.
  name TEXT PRIMARY KEY,
  value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tally (
  -- How many requests of a run are in each state; kept in the transaction that moves them.
  run_id INTEGER NOT NULL REFERENCES run,
  stage TEXT NOT NULL,
  state TEXT NOT NULL,
  requests INTEGER NOT NULL CHECK (requests >= 0),
  PRIMARY KEY (run_id, stage, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE run_total (
  -- The sums of a run, kept like the tally: a status never scans.
  run_id INTEGER PRIMARY KEY REFERENCES run,
  attempts INTEGER NOT NULL DEFAULT 0 CHECK (attempts >= 0),
  polls INTEGER NOT NULL DEFAULT 0,
  rate_limited INTEGER NOT NULL DEFAULT 0,
  elapsed_s REAL NOT NULL DEFAULT 0,
  skipped_rows INTEGER NOT NULL DEFAULT 0,
  possible_duplicates INTEGER NOT NULL DEFAULT 0,
  possible_duplicates_upper_bound_pusd INTEGER NOT NULL DEFAULT 0,
  cost_pusd INTEGER NOT NULL DEFAULT 0 CHECK (cost_pusd >= 0),
  cost_unknown INTEGER NOT NULL DEFAULT 0 CHECK (cost_unknown >= 0),
  cost_unknown_upper_bound_pusd INTEGER NOT NULL DEFAULT 0,
  input_tokens INTEGER NOT NULL DEFAULT 0,
  cached_tokens INTEGER NOT NULL DEFAULT 0,
  cache_write_tokens INTEGER NOT NULL DEFAULT 0,
  output_tokens INTEGER NOT NULL DEFAULT 0,
  reasoning_tokens INTEGER NOT NULL DEFAULT 0,
  total_tokens INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE VIEW results AS
  -- One line per request: its outcome, and the cost of all its attempts together. The cost is NULL while one of them is
  -- open, and if the cost of one is unknown. Dollars are exact text; cost_pusd is for sums.
  SELECT
    run, key, state, output_text, code, message, response_id, model, attempts,
    iif(
      cost_pusd IS NULL, NULL,
      rtrim(rtrim(printf('%d.%012d', cost_pusd / 1000000000000, cost_pusd % 1000000000000), '0'), '.')
    ) AS cost_usd,
    cost_pusd, sent, settled, source
  FROM (
    SELECT
      run.name AS run, request.key, request.state, result.output_text, request.code, request.message,
      attempt.response_id, attempt.model, request.number AS attempts,
      (
        SELECT iif(
          (request.settled_at IS NOT NULL OR request.state = 'pending') AND count(*) = count(cost_pusd),
          coalesce(sum(cost_pusd), 0), NULL
        )
        FROM charge WHERE attempt_id BETWEEN request.id * 1000000 AND request.id * 1000000 + 999999
      ) AS cost_pusd,
      datetime(attempt.sent_at, 'unixepoch') AS sent, datetime(request.settled_at, 'unixepoch') AS settled,
      input_row.source
    FROM request
    JOIN run ON run.id = request.run_id
    JOIN input_row ON input_row.request_id = request.id
    LEFT JOIN attempt ON attempt.id = request.id * 1000000 + request.number
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
