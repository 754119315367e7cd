-- Flags and samples.

-- name: set_flag
INSERT INTO flag (request_id, run_id, flag, note, flagged_at)
SELECT id, run_id, :flag, :note, :at FROM request WHERE id = :request_id
ON CONFLICT (request_id) DO UPDATE SET flag = excluded.flag, note = excluded.note, flagged_at = excluded.flagged_at;

-- name: clear_flag
DELETE FROM flag WHERE request_id = :request_id;

-- name: request_exists
SELECT 1 FROM request WHERE id = :request_id;

-- name: first_pulse
SELECT min(number) FROM pulse WHERE run_id = :run_id;

-- name: add_pulse
INSERT INTO pulse (
  run_id, number, at, settled, failed, in_flight, attempts, polls, rate_limited, cost_pusd
)
SELECT
  :run_id, :number, :at, coalesce(settled, 0), coalesce(failed, 0), coalesce(in_flight, 0), attempts, polls,
  rate_limited, cost_pusd
FROM run_total LEFT JOIN (
  SELECT
    sum(iif(state = 'succeeded' OR state = 'failed' OR state = 'cancelled', requests, 0)) AS settled,
    sum(iif(state = 'failed', requests, 0)) AS failed,
    sum(iif(state = 'submitting' OR state = 'submitted' OR state = 'acting' OR state = 'in_doubt', requests, 0))
      AS in_flight
  FROM tally WHERE run_id = :run_id
) AS counted ON true
WHERE run_id = :run_id
ON CONFLICT (run_id, number) DO NOTHING;

-- name: thin_pulses
DELETE FROM pulse WHERE run_id = :run_id AND number % :step <> 0;
