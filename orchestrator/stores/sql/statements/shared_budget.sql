-- What all runs that spend the same money have spent and set aside; asked by readers, and by the writer in its claims.

-- name: spent
SELECT coalesce(sum(CASE WHEN day = :day THEN pusd ELSE 0 END), 0), coalesce(sum(pusd), 0)
FROM (
  SELECT spending.day, spending.pusd FROM spending JOIN run ON run.id = spending.run_id
  WHERE spending.day >= :first_of_month AND run.simulated = :simulated
  UNION ALL
  SELECT day, pusd FROM removed_spending WHERE day >= :first_of_month AND simulated = :simulated
) AS spent;

-- name: set_aside
SELECT run_total.run_id, run_total.reserved_pusd
FROM run_total JOIN run ON run.id = run_total.run_id
WHERE run_total.reserved_pusd > 0 AND run.simulated = :simulated;

-- name: spent_by_run
SELECT cost_pusd + cost_unknown_upper_bound_pusd FROM run_total WHERE run_id = :run_id;
