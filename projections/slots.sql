-- Checkpoints: one row per projection and slot. Whoever holds the row's lock applies; all others stand by.

-- name: ensure
INSERT INTO projection_slots (projection, slot, live, version) VALUES ($1, 'a', true, $2) ON CONFLICT DO NOTHING

-- name: ensure_spare
INSERT INTO projection_slots (projection, slot, live, version)
SELECT projection, CASE slot WHEN 'a' THEN 'b' ELSE 'a' END, false, $2 FROM projection_slots WHERE projection = $1 AND live
ON CONFLICT DO NOTHING

-- name: begin_spare
-- Empties the slot that is not live and says which code fills it. $1: projection, $2: version of the code.
UPDATE projection_slots SET version = $2 WHERE projection = $1 AND NOT live RETURNING slot

-- name: clear
SELECT projection_clear($1, $2)

-- name: index
-- Makes what the slot lacks of the live one's indexes; how many those were.
SELECT projection_index($1, $2) AS made

-- name: hold
-- The slot for this transaction, or nothing where another process is at it.
SELECT slot, version, position, records, checksum, read_until, stopped, stopped_position
FROM projection_slots
WHERE projection = $1 AND live = $2
FOR UPDATE SKIP LOCKED

-- name: hold_both
-- In the order of slots, so that two who want both never wait for each other.
SELECT slot, version, position, records, checksum, read_until, stopped, stopped_position, live
FROM projection_slots
WHERE projection = $1
ORDER BY slot
FOR UPDATE

-- name: relaxed
-- A crash of the server may take the last moments: rows and checkpoint together, and they are written again.
SELECT set_config('synchronous_commit', 'off', true)

-- name: advance
UPDATE projection_slots
SET position = $3, records = $4, checksum = $5, read_until = $6, updated_at = clock_us(), stopped = '', stopped_position = 0
WHERE projection = $1 AND slot = $2

-- name: stop
UPDATE projection_slots SET stopped = $3, stopped_position = $4, updated_at = clock_us()
WHERE projection = $1 AND slot = $2

-- name: lease
-- For whoever works outside of the transaction: it is $2's turn for $3 microseconds, where it is nobody else's.
UPDATE projection_slots SET holder = $2, held_until = (SELECT clock_us()) + $3::bigint
WHERE projection = $1 AND live AND (holder = $2 OR held_until < (SELECT clock_us()))

-- name: let_go
UPDATE projection_slots SET held_until = 0 WHERE projection = $1 AND holder = $2

-- name: retire
UPDATE projection_slots SET live = false WHERE projection = $1 AND live

-- name: promote
UPDATE projection_slots SET live = true WHERE projection = $1 AND slot = $2

-- name: all
SELECT projection, slot, live, version, position, records, checksum, read_until, updated_at, stopped, stopped_position
FROM projection_slots
ORDER BY projection, slot

-- name: standing
-- Where a projection stands that is read now, how far the store is, and what time it is.
SELECT s.slot, s.position, s.read_until, s.records, clock_us() AS now,
       coalesce((SELECT first_position + last_seq - first_seq FROM feed_sealed ORDER BY first_position DESC LIMIT 1), 0)
       + coalesce((SELECT sum(f.records) FROM feed_unsealed f), 0)::bigint AS head
FROM (SELECT) AS always LEFT JOIN projection_slots s ON s.projection = $1 AND s.live

-- name: slot
SELECT slot FROM projection_slots WHERE projection = $1 AND live

-- name: read_as
SELECT set_config('orchestrator.tenant', $1, true)
