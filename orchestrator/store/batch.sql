-- What one batch asks and writes, in the order of its transaction. Lists come as arrays; in the statements of every turn
-- they come as one text, joined by E'\x1f', since packing and unpacking an array costs several times as much. (A single
-- empty text comes out as no element at all: hence coalesce.)

-- name: lock_keys
-- Event keys as transaction locks on 32-bit buckets (docs/adr/0005-event-key-locks.md), in the order given: sorted.
SELECT count(pg_advisory_xact_lock($1, bucket)) FROM unnest($2::int[]) AS bucket

-- name: waits_for_keys
SELECT w.saga_id, w.activity, w.type, w.key, w.accepts_from
FROM unnest($1::text[], $2::text[], $3::text[]) AS k (tenant, type, key)
JOIN waits w USING (tenant, type, key)
ORDER BY w.opened_at, w.saga_id, w.activity

-- name: early_for_keys
SELECT e.tenant, e.type, e.key, e.event_id, e.data, e.arrived_at, e.traceparent,
       array(SELECT c.name FROM consumed_events c
             WHERE c.tenant = e.tenant AND c.event_id = e.event_id ORDER BY c.name, c.business_key) AS names,
       array(SELECT c.business_key FROM consumed_events c
             WHERE c.tenant = e.tenant AND c.event_id = e.event_id ORDER BY c.name, c.business_key) AS business_keys
FROM unnest($1::text[], $2::text[], $3::text[]) AS k (tenant, type, key)
JOIN early_events e USING (tenant, type, key)
ORDER BY e.arrived_at, e.event_id

-- name: make_heads
-- Waits for whoever makes the same head at this moment, then sees it.
INSERT INTO saga_heads (saga_id, tenant, name, business_key, version, started_at)
SELECT saga_id, tenant, name, business_key, 0, (SELECT clock_us())
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS s (saga_id, tenant, name, business_key)
ON CONFLICT (saga_id) DO NOTHING

-- name: lock_heads
-- Rows are sorted before they are locked.
SELECT h.saga_id, h.tenant, h.name, h.definition_version, h.business_key, h.version, h.hash, h.recorded_at, h.ended
FROM saga_heads h
WHERE h.saga_id = ANY (string_to_array($1, E'\x1f'))
ORDER BY h.saga_id
FOR UPDATE

-- name: take_runs
INSERT INTO live_runs (tenant, name, business_key, saga_id)
SELECT tenant, name, business_key, saga_id
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS s (tenant, name, business_key, saga_id)
ON CONFLICT (tenant, name, business_key) DO NOTHING

-- name: run_owners
SELECT tenant, name, business_key, r.saga_id
FROM unnest($1::text[], $2::text[], $3::text[]) AS s (tenant, name, business_key)
JOIN live_runs r USING (tenant, name, business_key)

-- name: take_in
-- All locks are held here, so this is where the clock is read and the batch gets its number. `keys` says which messages
-- are new; it stays empty where all of them are, which is nearly always.
WITH new AS (
    INSERT INTO inbox (received_at, key, body_hash)
    SELECT (SELECT clock_us()), key, body_hash FROM unnest($1::bytea[], $2::bytea[]) AS m (key, body_hash)
    ON CONFLICT (key) DO NOTHING
    RETURNING key
)
SELECT CASE WHEN count(*) < cardinality($1) THEN array_agg(key) END AS keys, count(*) AS taken,
       clock_us() AS now, nextval('batches') AS batch
FROM new

-- name: clock
SELECT clock_us() AS now, nextval('batches') AS batch

-- name: taken_before
SELECT key, body_hash FROM inbox WHERE key = ANY ($1::bytea[])

-- name: streams
SELECT saga_id, version, body, hash FROM records WHERE saga_id = ANY ($1::text[]) ORDER BY saga_id, version

-- name: advance_heads
UPDATE saga_heads h
SET version = u.version::int, definition_version = u.definition_version::int, hash = decode(u.hash, 'hex'),
    recorded_at = greatest(h.recorded_at, $11), phase = u.phase, outcome = coalesce(u.outcome, ''),
    stuck = u.stuck::int, waiting_for = coalesce(u.waiting_for, ''), ended = u.ended::bool,
    parent = coalesce(u.parent, '')
FROM unnest(string_to_array($1, E'\x1f'), string_to_array($2, E'\x1f'), string_to_array($3, E'\x1f'),
            string_to_array($4, E'\x1f'), string_to_array($5, E'\x1f'), string_to_array($6, E'\x1f'),
            string_to_array($7, E'\x1f'), string_to_array($8, E'\x1f'), string_to_array($9, E'\x1f'),
            string_to_array($10, E'\x1f'))
     AS u (saga_id, version, definition_version, hash, phase, outcome, stuck, waiting_for, ended, parent)
WHERE h.saga_id = u.saga_id AND h.version < u.version::int

-- name: clear_timers
-- armed 0 clears whatever is there.
DELETE FROM timers t
USING unnest(string_to_array($1, E'\x1f'), string_to_array($2, E'\x1f'), string_to_array($3, E'\x1f'))
      AS c (saga_id, activity, armed)
WHERE t.saga_id = c.saga_id AND t.activity = coalesce(c.activity, '') AND (c.armed = '0' OR t.armed = c.armed::int)

-- name: announce_batch
INSERT INTO feed_unsealed (batch, records) VALUES ($1, $2)

-- name: trace_batch
-- Its records of sampled sagas are to become spans (migration 0150).
INSERT INTO trace_batches (batch, places) VALUES ($1, $2)

-- name: forget_heads
DELETE FROM saga_heads WHERE saga_id = ANY ($1::text[]) AND version = 0

-- name: free_runs
DELETE FROM live_runs r
USING unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS e (tenant, name, business_key, saga_id)
WHERE r.tenant = e.tenant AND r.name = e.name AND r.business_key = e.business_key AND r.saga_id = e.saga_id

-- name: set_resumes
INSERT INTO resumes (saga_id, since) SELECT unnest($1::text[]), $2 ON CONFLICT (saga_id) DO NOTHING

-- name: clear_resumes
DELETE FROM resumes WHERE saga_id = ANY ($1::text[])

-- name: close_waits
WITH closed AS (
    SELECT * FROM unnest($1::text[], $2::text[]) AS c (saga_id, activity)
), checks AS (
    DELETE FROM wait_checks w USING closed c WHERE w.saga_id = c.saga_id AND w.activity = c.activity
)
DELETE FROM waits w USING closed c WHERE w.saga_id = c.saga_id AND w.activity = c.activity

-- name: open_waits
-- unchecked: nobody has looked under the lock of the key for what came early.
WITH opened AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $8::bool[])
         AS w (tenant, type, key, saga_id, activity, accepts_from, unchecked)
), checks AS (
    INSERT INTO wait_checks (since, saga_id, activity, type, key)
    SELECT $7, saga_id, activity, type, key FROM opened WHERE unchecked
    ON CONFLICT (saga_id, activity, type, key) DO UPDATE SET since = excluded.since
)
INSERT INTO waits (accepts_from, opened_at, tenant, type, key, saga_id, activity)
SELECT accepts_from, $7, tenant, type, key, saga_id, activity FROM opened
ON CONFLICT (saga_id, activity, type, key) DO UPDATE
SET accepts_from = excluded.accepts_from, opened_at = excluded.opened_at

-- name: checks_done
DELETE FROM wait_checks w
USING unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS d (saga_id, activity, type, key)
WHERE w.saga_id = d.saga_id AND w.activity = d.activity AND w.type = d.type AND w.key = d.key

-- name: consume
INSERT INTO consumed_events (consumed_at, tenant, event_id, name, business_key, saga_id)
SELECT $6, * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[])
ON CONFLICT (tenant, event_id, name, business_key) DO NOTHING

-- name: consumers
SELECT event_id, name, business_key, c.saga_id
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS e (tenant, event_id, name, business_key)
JOIN consumed_events c USING (tenant, event_id, name, business_key)

-- name: keep_early
INSERT INTO early_events (kept_at, arrived_at, tenant, type, key, event_id, traceparent, data)
SELECT $8, * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[])
ON CONFLICT (tenant, type, key, event_id) DO NOTHING

-- name: open_tasks
INSERT INTO tasks (opened_at, due, saga_id, activity, tenant, data)
SELECT $6, due, saga_id, activity, tenant, data
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bytea[]) AS t (due, saga_id, activity, tenant, data)
ON CONFLICT (saga_id, activity) DO UPDATE SET due = excluded.due, data = excluded.data, closed_at = NULL, closed = ''

-- name: close_tasks
UPDATE tasks t SET closed_at = $4, closed = c.how
FROM unnest($1::text[], $2::text[], $3::text[]) AS c (saga_id, activity, how)
WHERE t.saga_id = c.saga_id AND t.activity = c.activity AND t.closed = ''

-- name: drop_candidates
DELETE FROM task_candidates t
USING unnest($1::text[], $2::text[]) AS c (saga_id, activity)
WHERE t.saga_id = c.saga_id AND t.activity = c.activity

-- name: add_candidates
-- barred: names joined by line breaks, since an array of arrays must be rectangular.
INSERT INTO task_candidates (due, tenant, candidate, saga_id, activity, barred)
SELECT due, tenant, candidate, saga_id, activity, string_to_array(barred, E'\n')
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[])
     AS c (due, tenant, candidate, saga_id, activity, barred)
ON CONFLICT DO NOTHING

-- name: keep_dead_letters
INSERT INTO dead_letters
       (kept_at, "offset", partition, tenant, topic, reason, detail, message_id, key, value, headers)
SELECT $11, * FROM unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[],
                          $9::bytea[], $10::bytea[])

-- name: redriven
UPDATE dead_letters SET redriven_at = $2 WHERE id = ANY ($1::bigint[]) AND redriven_at IS NULL

-- name: move_positions
-- A position never goes back: an owner that froze and woke up late changes nothing.
INSERT INTO positions (consumer_group, topic, partition, next_offset, read_until, updated_at)
SELECT *, $6 FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bigint[])
ON CONFLICT (consumer_group, topic, partition) DO UPDATE
SET next_offset = greatest(positions.next_offset, excluded.next_offset),
    read_until = greatest(positions.read_until, excluded.read_until), updated_at = excluded.updated_at

-- name: claim_few
-- What lock_heads, take_runs and take_in do, in one call (migration 0003).
SELECT * FROM claim_v1($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::bytea[])

-- name: write_few
-- What clear_timers, records_stored, ..., move_positions do, in one call (migration 0003).
SELECT write_v1(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
    $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, $47,
    $48, $49, $50, $51, $52, $53, $54, $55, $56, $57
)

-- name: write_presumed
-- What claim_few and write_few do, verified instead of read, in one call (migration 0004).
SELECT now_us, batch, advanced FROM presumed_v1(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24,
    $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, $47,
    $48, $49, $50, $51, $52, $53, $54, $55, $56, $57, $58, $59, $60, $61, $62, $63, $64, $65, $66
)

-- name: write_few_traced
-- As write_few, for a batch with records of sampled sagas: $58 as in trace_batch.
WITH written AS (
    SELECT write_v1(
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
        $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42,
        $43, $44, $45, $46, $47, $48, $49, $50, $51, $52, $53, $54, $55, $56, $57
    ) AS advanced
), traced AS (
    INSERT INTO trace_batches (batch, places) VALUES ($34, $58)
)
SELECT advanced FROM written

-- name: write_presumed_traced
-- As write_presumed, with $67 as in trace_batch.
WITH written AS MATERIALIZED (
    SELECT now_us, batch, advanced FROM presumed_v1(
        $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
        $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42,
        $43, $44, $45, $46, $47, $48, $49, $50, $51, $52, $53, $54, $55, $56, $57, $58, $59, $60, $61, $62,
        $63, $64, $65, $66
    )
), traced AS (
    INSERT INTO trace_batches (batch, places) SELECT batch, $67::integer[] FROM written WHERE batch IS NOT NULL
)
SELECT now_us, batch, advanced FROM written
