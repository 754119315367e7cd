-- Stages of a pipeline: rows that are passed on, groups and their members, and the end of a stage.

-- name: mark_to_pass_on
UPDATE request SET to_pass_on = 1 WHERE id = :id;

-- name: passed_on
-- Changes a row for exactly one caller: only that one may make rows of it.
UPDATE request SET to_pass_on = 2 WHERE id = :id AND to_pass_on = 1;

-- name: add_group
INSERT INTO request (id, run_id, stage, key, state, level, to_pass_on)
VALUES (:id, :run_id, :stage, :key, :state, 0, :to_pass_on);

-- name: id_of_key
SELECT id FROM request WHERE run_id = :run_id AND stage = :stage AND key = :key;

-- name: place_of
SELECT run_id, stage FROM request WHERE id = :id;

-- name: add_member
INSERT INTO member (group_id, request_id) VALUES (:group_id, :request_id) ON CONFLICT DO NOTHING;

-- name: drop_members
DELETE FROM member WHERE group_id = :group_id;

-- name: count_awaited
UPDATE request SET awaits = (
  SELECT count(*) FROM member JOIN request AS each ON each.id = member.request_id
  WHERE member.group_id = request.id AND each.settled_at IS NULL
) WHERE id = :id;

-- name: recount_awaited
UPDATE request INDEXED BY request_groups SET awaits = (
  SELECT count(*) FROM member JOIN request AS each ON each.id = member.request_id
  WHERE member.group_id = request.id AND each.settled_at IS NULL
) WHERE run_id = :run_id AND level IS NOT NULL AND state = 'blocked';

-- name: move_last_id
UPDATE run SET
  first_request_id = coalesce(first_request_id, :first_id), last_request_id = max(coalesce(last_request_id, 0), :last_id)
WHERE id = :run_id;

-- name: fill_group
UPDATE request SET state = :to_state, not_before = :at, rows_missing = rows_missing + :missing
WHERE id = :id AND state = :from_state AND awaits = 0;

-- name: put_row
UPDATE input_row SET data = :data WHERE request_id = :id;

-- name: place_group
-- The place of a group in the input is that of its first row.
UPDATE input_row SET position = (
  SELECT min(position) FROM input_row AS each WHERE each.request_id IN (
    SELECT :group_id UNION ALL SELECT request_id FROM member WHERE group_id = :group_id
  )
) WHERE request_id = :group_id;

-- name: split_group
UPDATE request SET level = level + 1, rows_missing = rows_missing + :missing
WHERE id = :id AND state = :from_state AND awaits = 0 AND level = :level;

-- name: fail_group
UPDATE request SET state = :to_state, code = :code, message = :message, settled_at = :at
WHERE id = :id AND state = :from_state
RETURNING run_id, stage;

-- name: drop_row
DELETE FROM input_row WHERE request_id = :id;

-- name: drop_group
DELETE FROM request WHERE id = :id AND state = :from_state AND awaits = 0;

-- name: broken_groups
SELECT id, stage, state FROM request
WHERE run_id = :run_id AND level IS NOT NULL AND number = 0
  AND state IN (SELECT value FROM json_each(:states))
  AND (:stage IS NULL OR stage = :stage OR code = 'group_incomplete');

-- name: unseal_stages
DELETE FROM stage WHERE run_id = :run_id;

-- name: may_seal
SELECT
  CASE WHEN :source IS NULL THEN run.planned_complete = 1 ELSE (
    EXISTS (SELECT 1 FROM stage WHERE stage.run_id = run.id AND stage.name = :source)
    AND NOT EXISTS (
      SELECT 1 FROM request INDEXED BY request_to_pass_on
      WHERE run_id = run.id AND stage = :source AND to_pass_on = 1 AND settled_at IS NOT NULL
    )
  ) END
FROM run WHERE run.id = :run_id;

-- name: seal_stage
INSERT INTO stage (run_id, name) VALUES (:run_id, :name) ON CONFLICT DO NOTHING;

-- name: sealed_stages
SELECT name FROM stage WHERE run_id = :run_id;

-- name: to_pass_on
SELECT
  request.id, request.key, request.stage, request.state, input_row.position, input_row.source, input_row.data,
  result.output_text
FROM request INDEXED BY request_to_pass_on
JOIN input_row ON input_row.request_id = request.id
LEFT JOIN result ON result.attempt_id = coalesce(request.answered_by, request.id * 1000000 + request.number)
WHERE request.run_id = :run_id AND request.to_pass_on = 1 AND request.settled_at IS NOT NULL
LIMIT :limit;

-- name: ready_groups
SELECT request.id, request.key, request.level, input_row.position, input_row.source, input_row.data
FROM request INDEXED BY request_group JOIN input_row ON input_row.request_id = request.id
WHERE request.run_id = :run_id AND request.stage = :stage AND request.level IS NOT NULL AND request.state = 'blocked'
  AND request.awaits = 0
ORDER BY request.id LIMIT :limit;

-- name: members
SELECT request.stage, request.key, request.state, input_row.position, input_row.data, result.output_text
FROM member
JOIN request ON request.id = member.request_id
JOIN input_row ON input_row.request_id = request.id
LEFT JOIN result ON result.attempt_id = coalesce(request.answered_by, request.id * 1000000 + request.number)
WHERE member.group_id = :group_id;

-- name: lost_rows
-- Failed rows of stages that are in no group of the stage that groups them.
SELECT count(*) AS lost FROM request
WHERE request.run_id = :run_id AND request.stage IN (SELECT value FROM json_each(:sources)) AND request.state <> 'succeeded'
  AND request.settled_at IS NOT NULL
  AND NOT EXISTS (
    SELECT 1 FROM member JOIN request AS grouping ON grouping.id = member.group_id
    WHERE member.request_id = request.id AND grouping.stage = :stage
  );

-- name: partial_groups
-- How many groups of each stage were asked without failed rows, and of how many groups rows are there now that were not
-- when they were asked.
SELECT stage, count(CASE WHEN rows_missing > 0 THEN 1 END) AS partial, count(CASE WHEN EXISTS (
  SELECT 1 FROM member JOIN request AS each ON each.id = member.request_id
  WHERE member.group_id = request.id AND each.state = 'succeeded' AND each.settled_at > coalesce(
    (SELECT sent_at FROM attempt WHERE attempt.id = request.id * 1000000 + 1), request.settled_at
  )
) THEN 1 END) AS outdated
FROM request INDEXED BY request_groups
WHERE run_id = :run_id AND level IS NOT NULL AND state = 'succeeded'
GROUP BY stage;

-- name: stage_tally
SELECT stage, state, requests FROM tally WHERE run_id = :run_id AND requests > 0;
