-- What the line sweep reads, as the owner of all schemas.

-- name: heads
SELECT saga_id, business_key, phase, version, hash, ended FROM saga_heads WHERE business_key = ANY ($1::text[]);

-- name: records
SELECT saga_id, version, body, hash FROM records WHERE saga_id = ANY ($1::text[]) ORDER BY saga_id, version;

-- name: decided
-- Which of these messages ("saga/version") have a committed outbox row and a committed record.
SELECT o.saga_id || '/' || o.version AS id FROM outbox o
  JOIN records r ON r.saga_id = o.saga_id AND r.version = o.version
 WHERE o.saga_id = ANY ($1::text[]);

-- name: marked
-- Messages of these sagas that are said to be on the broker.
SELECT o.topic, o.saga_id || '/' || o.version AS id FROM outbox o JOIN saga_heads h USING (saga_id)
 WHERE h.business_key = ANY ($1::text[]) AND NOT EXISTS (SELECT FROM outbox_unsent u WHERE u.seq = o.seq);

-- name: positions
SELECT topic, partition, next_offset FROM positions WHERE consumer_group = 'lines'
UNION ALL SELECT topic, partition, next_offset FROM vault.positions
UNION ALL SELECT topic, partition, next_offset FROM teller.positions
UNION ALL SELECT topic, partition, next_offset FROM case_ai.positions
UNION ALL SELECT topic, partition, next_offset FROM case_desk.positions
UNION ALL SELECT topic, partition, next_offset FROM clearing.positions;

-- name: taken_in
SELECT key FROM inbox WHERE key = ANY ($1::bytea[]);

-- name: dead_letters
SELECT topic, partition, "offset", key FROM dead_letters;

-- name: participants_dead_letters
SELECT topic, message_offset, reason FROM vault.dead_letters
UNION ALL SELECT topic, message_offset, reason FROM teller.dead_letters
UNION ALL SELECT topic, message_offset, reason FROM case_ai.dead_letters
UNION ALL SELECT topic, message_offset, reason FROM case_desk.dead_letters
UNION ALL SELECT topic, message_offset, reason FROM clearing.dead_letters;

-- name: ledger
SELECT payout_id, kind, key FROM vault.ledger WHERE payout_id = ANY ($1::text[]) ORDER BY number;

-- name: left_over
-- Whatever still waits for these sagas: nothing may.
SELECT 'timer' AS what, saga_id FROM timers WHERE saga_id = ANY ($1::text[])
UNION ALL SELECT 'open task', saga_id FROM tasks WHERE closed = '' AND saga_id = ANY ($1::text[])
UNION ALL SELECT 'resume', saga_id FROM resumes WHERE saga_id = ANY ($1::text[])
UNION ALL SELECT 'wait', saga_id FROM waits WHERE saga_id = ANY ($1::text[])
UNION ALL SELECT 'unsent message', o.saga_id FROM outbox_unsent JOIN outbox o USING (seq) WHERE o.saga_id = ANY ($1::text[]);

-- name: unfinished
SELECT business_key, phase, version, waiting_for, stuck FROM saga_heads
 WHERE NOT ended AND business_key = ANY ($1::text[]);
