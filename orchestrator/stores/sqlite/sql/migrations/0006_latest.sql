-- When something was last sent, accepted or ended in a run. A resume that searched a million attempts for it would be
-- late.

ALTER TABLE run_total ADD COLUMN latest_at REAL NOT NULL DEFAULT 0;

UPDATE run_total SET latest_at = coalesce(
  (
    SELECT max(max(attempt.sent_at, coalesce(attempt.accepted_at, 0), coalesce(attempt.ended_at, 0)))
    FROM request JOIN attempt ON attempt.id BETWEEN request.id * 1000000 AND request.id * 1000000 + 999999
    WHERE request.run_id = run_total.run_id
  ),
  0
);
