-- What PostgreSQL words differently; each replaces the shared statement of the same name.

-- name: link_turns
-- Numbers come before texts.
UPDATE request SET follows = linked.before
FROM (
  SELECT
    request_id,
    lag(request_id) OVER (
      PARTITION BY chain
      ORDER BY
        place IS NOT NULL, jsonb_typeof(place) = 'string',
        CASE jsonb_typeof(place) WHEN 'string' THEN NULL ELSE place END, (place #>> '{}') COLLATE "C", request_id
    ) AS before
  FROM chain_turn WHERE run_id = :run_id
) AS linked
WHERE request.id = linked.request_id AND request.state = :state;

-- name: settle_later_turns
-- What RETURNING gives has no order of its own.
WITH RECURSIVE rest (id) AS (
  SELECT id FROM request WHERE follows = :request_id AND state = :from_state
  UNION ALL
  SELECT request.id FROM request JOIN rest ON request.follows = rest.id WHERE request.state = :from_state
), moved AS (
  UPDATE request SET state = :to_state, code = :code, message = :message, settled_at = :settled_at
  WHERE id IN (SELECT id FROM rest)
  RETURNING id, stage, key, code
)
SELECT stage, key, code FROM moved ORDER BY id;

-- name: settle_duplicates
WITH moved AS (
  UPDATE request SET
    state = :to_state, answered_by = :answered_by, code = :code, message = :message, settled_at = :settled_at
  WHERE same_as = :request_id AND state = :from_state
  RETURNING id, stage, key, code
)
SELECT stage, key, code FROM moved ORDER BY id;
