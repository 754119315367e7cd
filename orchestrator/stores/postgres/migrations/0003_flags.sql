-- What the web view reads: samples of a run, and what people noted on rows. Failed requests have no index of their own,
-- because it would cover the state.

CREATE TABLE pulse (
  run_id bigint NOT NULL,
  number bigint NOT NULL,
  at double precision NOT NULL,
  settled bigint NOT NULL,
  failed bigint NOT NULL,
  in_flight bigint NOT NULL,
  attempts bigint NOT NULL,
  polls bigint NOT NULL,
  rate_limited bigint NOT NULL,
  cost_pusd bigint NOT NULL,
  PRIMARY KEY (run_id, number)
);

CREATE TABLE flag (
  request_id bigint PRIMARY KEY,
  run_id bigint NOT NULL,
  flag text NOT NULL,
  note text NOT NULL,
  flagged_at double precision NOT NULL
);

CREATE INDEX flag_run ON flag (run_id, flag);
