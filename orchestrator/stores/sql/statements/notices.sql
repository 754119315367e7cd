-- name: add_notice
INSERT INTO notice (message_id, run_id, event, cause, receiver, payload, created_at)
SELECT :message_id, :run_id, :event, :cause, :receiver, :payload, :created_at
WHERE NOT EXISTS (
  SELECT 1 FROM notice
  WHERE run_id = :run_id AND event = :event AND cause = :cause AND receiver = :receiver
    AND created_at > :created_at - :repeat_after_s
)
ON CONFLICT DO NOTHING;

-- name: take_notices
-- After many tries a notice is given up: its receiver is gone, or refuses it.
UPDATE notice SET taken_until = :at + :for_s
WHERE delivered_at IS NULL AND tries < :most_tries AND taken_until <= :at
  AND receiver IN (SELECT value FROM json_each(:receivers))
RETURNING created_at, message_id, run_id, event, receiver, payload, tries;

-- name: note_delivery
UPDATE notice SET
  tries = tries + 1, taken_until = CASE WHEN :delivered = 1 THEN taken_until ELSE 0 END, error = :error,
  delivered_at = CASE WHEN :delivered = 1 THEN :at ELSE delivered_at END
WHERE message_id = :message_id;
