-- What all runs together spend, for budgets of a day and a month; and the user's own metadata, for sums by it.

-- 1: at the embedded sandbox, which costs no money.
ALTER TABLE run ADD COLUMN simulated INTEGER NOT NULL DEFAULT 0 CHECK (simulated = 0 OR simulated = 1);

-- JSON: the metadata that the job gives to the request.
ALTER TABLE attempt ADD COLUMN metadata TEXT;

-- The worst cases of all attempts that have not ended.
ALTER TABLE run_total ADD COLUMN reserved_pusd INTEGER NOT NULL DEFAULT 0 CHECK (reserved_pusd >= 0);

UPDATE run_total SET reserved_pusd = (
  SELECT coalesce(sum(attempt.worst_case_pusd), 0)
  FROM request JOIN attempt ON attempt.id = request.id * 1000000 + request.number
  WHERE request.run_id = run_total.run_id AND attempt.ended_at IS NULL
);

CREATE TABLE spending (
  -- What a run was charged on a day, unknown costs at the most they can be; kept in the transaction that charges.
  day INTEGER NOT NULL,                 -- since 1970-01-01, UTC
  run_id INTEGER NOT NULL REFERENCES run,
  pusd INTEGER NOT NULL CHECK (pusd >= 0),
  PRIMARY KEY (day, run_id)
) STRICT, WITHOUT ROWID;

INSERT INTO spending (day, run_id, pusd)
SELECT
  CAST(charge.charged_at / 86400 AS INTEGER) AS day, request.run_id,
  sum(coalesce(charge.cost_pusd, charge.upper_bound_pusd, 0))
FROM charge
JOIN attempt ON attempt.id = charge.attempt_id
JOIN request ON request.id = attempt.request_id
GROUP BY 1, 2;

DROP INDEX charge_time;
