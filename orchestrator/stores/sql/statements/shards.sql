-- What is asked of single shards of a run; more of it is derived from the statements about whole runs.

-- name: request_range
SELECT first_request_id, last_request_id FROM run WHERE id = :run_id AND first_request_id IS NOT NULL;

-- name: has_unsettled
SELECT EXISTS (
  SELECT 1 FROM request
  WHERE request.id BETWEEN :first_id AND :last_id AND +request.run_id = :run_id AND request.settled_at IS NULL
) AS found;
