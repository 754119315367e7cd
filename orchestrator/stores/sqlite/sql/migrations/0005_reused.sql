-- How many requests have the answer of another one, and so no cost of their own.

ALTER TABLE run_total ADD COLUMN reused INTEGER NOT NULL DEFAULT 0 CHECK (reused >= 0);

UPDATE run_total SET reused = (
  SELECT count(*) FROM request
  WHERE request.run_id = run_total.run_id AND request.state = 'succeeded' AND request.answered_by IS NOT NULL
);
