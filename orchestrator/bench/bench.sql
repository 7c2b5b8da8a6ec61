-- What a bench asks afterwards. The ledgers are those of the participants of sagas/orders, and of the bench's own steps.

-- name: sagas
-- How the sagas of a run ended. $1: prefix of their business keys.
SELECT phase, count(*)::int AS sagas, count(*) FILTER (WHERE NOT ended)::int AS live, coalesce(sum(version), 0)::bigint AS records
  FROM saga_heads WHERE starts_with(business_key, $1) GROUP BY phase

-- name: database_bytes
SELECT pg_database_size(current_database()) AS bytes

-- name: wal_bytes
SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS bytes

-- name: settings
SELECT name, setting FROM pg_settings
 WHERE name IN ('server_version', 'fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers', 'wal_level')

-- name: leftovers
-- What must be empty or closed once every saga has ended.
SELECT (SELECT count(*) FROM outbox_unsent)::int AS unsent, (SELECT count(*) FROM live_runs)::int AS live_runs,
       (SELECT count(*) FROM dead_letters)::int AS dead_letters, (SELECT count(*) FROM timers)::int AS timers

-- name: orders_out_of_balance
-- Orders whose ledgers do not say what their saga says. completed: reserved, charged, handed over, nothing taken back.
-- compensated: everything that was done was undone.
WITH sagas AS (
    SELECT business_key AS order_id, phase FROM saga_heads WHERE starts_with(business_key, $1)
), goods AS (
    SELECT order_id, sum(quantity) AS held, count(*) FILTER (WHERE kind = 'released') AS released
      FROM inventory.movements WHERE starts_with(order_id, $1) GROUP BY order_id
), money AS (
    SELECT order_id, sum(amount) AS paid, count(*) FILTER (WHERE kind = 'refund') AS refunded
      FROM payments.entries WHERE starts_with(order_id, $1) GROUP BY order_id
), parcels AS (
    SELECT order_id, count(*) FILTER (WHERE kind = 'handed_over') AS gone,
           count(*) FILTER (WHERE kind = 'booked') - count(*) FILTER (WHERE kind <> 'booked') AS open
      FROM shipping.legs WHERE starts_with(order_id, $1) GROUP BY order_id
)
SELECT count(*)::int AS orders
  FROM sagas
  LEFT JOIN goods USING (order_id) LEFT JOIN money USING (order_id) LEFT JOIN parcels USING (order_id)
 WHERE NOT CASE phase
     WHEN 'completed' THEN coalesce(held, 0) < 0 AND coalesce(released, 0) = 0 AND coalesce(paid, 0) > 0
                           AND coalesce(refunded, 0) = 0 AND coalesce(gone, 0) = 1 AND coalesce(open, 0) = 0
     WHEN 'compensated' THEN coalesce(held, 0) = 0 AND coalesce(paid, 0) = 0 AND coalesce(gone, 0) = 0
                             AND coalesce(open, 0) = 0
     ELSE false
 END

-- name: stock_out_of_balance
-- Articles whose free pieces are not what came in less what the ledger holds.
SELECT count(*)::int AS articles
  FROM inventory.stock s
 WHERE s.received - s.available <> -coalesce((SELECT sum(quantity) FROM inventory.movements m WHERE m.sku = s.sku), 0)

-- name: trips_out_of_balance
-- Trips whose bookings do not say what their saga says, once each. completed: three bookings, none cancelled.
-- compensated: no car, and the others cancelled, the later one first. Bookings of a trip without a saga count as well.
WITH sagas AS (
    SELECT business_key AS trip_id, phase FROM saga_heads WHERE starts_with(business_key, $1)
), entries AS (
    SELECT 'flight' AS thing, trip_id, kind, entered_at FROM bench_flights.bookings
    UNION ALL SELECT 'hotel', trip_id, kind, entered_at FROM bench_hotels.bookings
    UNION ALL SELECT 'car', trip_id, kind, entered_at FROM bench_cars.bookings
), trips AS (
    SELECT trip_id, string_agg(kind || ' ' || thing, ', ' ORDER BY entered_at) AS story
      FROM entries WHERE starts_with(trip_id, $1) GROUP BY trip_id
)
SELECT count(*)::int AS trips
  FROM sagas FULL JOIN trips USING (trip_id)
 WHERE coalesce(story, '') IS DISTINCT FROM CASE phase
     WHEN 'completed' THEN 'booked flight, booked hotel, booked car'
     WHEN 'compensated' THEN 'booked flight, booked hotel, cancelled hotel, cancelled flight'
 END

-- name: per_saga
-- What one saga of a run weighs: messages sent and their bytes, records and their bytes.
SELECT (SELECT count(*) FROM outbox o WHERE o.saga_id IN (SELECT saga_id FROM saga_heads WHERE starts_with(business_key, $1)))
           ::float8 AS outbox_rows,
       (SELECT coalesce(sum(length(value) + length(headers)), 0) FROM outbox o
         WHERE o.saga_id IN (SELECT saga_id FROM saga_heads WHERE starts_with(business_key, $1)))::float8 AS outbox_bytes,
       (SELECT count(*) FROM records r WHERE r.saga_id IN (SELECT saga_id FROM saga_heads WHERE starts_with(business_key, $1)))
           ::float8 AS record_rows,
       (SELECT coalesce(sum(length(body)), 0) FROM records r
         WHERE r.saga_id IN (SELECT saga_id FROM saga_heads WHERE starts_with(business_key, $1)))::float8 AS record_bytes,
       (SELECT count(*) FROM inbox)::float8 AS inbox_rows,
       (SELECT count(*) FROM saga_heads WHERE starts_with(business_key, $1))::float8 AS sagas

-- name: make_limit_tables
CREATE TABLE limit_records (seq bigint, version integer, saga_id text COLLATE "C", tenant text COLLATE "C",
                            hash bytea, body bytea, PRIMARY KEY (saga_id, version));
CREATE TABLE limit_outbox (seq bigint, saga_id text COLLATE "C", version integer, topic text, key text, headers bytea,
                           value bytea, PRIMARY KEY (saga_id, version));
CREATE TABLE limit_inbox (received_at bigint, tenant text COLLATE "C", source text COLLATE "C", id text COLLATE "C",
                          body_hash bytea, PRIMARY KEY (tenant, source, id))

-- name: open_tasks
SELECT count(*)::int AS tasks FROM tasks WHERE closed = ''

-- name: stored_sagas
SELECT count(*)::int AS sagas FROM saga_heads

-- name: fill_heads
-- $1: how many copies of each row. A copy has the id of its original and a number.
INSERT INTO saga_heads (saga_id, tenant, name, business_key, version, definition_version, recorded_at, started_at, stuck,
                        ended, hash, phase, outcome, waiting_for, parent)
SELECT h.saga_id || '.' || n, h.tenant, h.name, h.business_key || '.' || n, h.version, h.definition_version, h.recorded_at,
       h.started_at, h.stuck, h.ended, h.hash, h.phase, h.outcome, h.waiting_for, h.parent
FROM saga_heads h CROSS JOIN generate_series(1, $1::int) AS n

-- name: fill_records
-- Numbers before those of the originals: the copies are older.
INSERT INTO records_stored (seq, version, saga_id, tenant, hash, body)
SELECT r.seq - (n::bigint << 44), r.version, r.saga_id || '.' || n, r.tenant, r.hash, r.body
FROM records r CROSS JOIN generate_series(1, $1::int) AS n

-- name: fill_outbox
INSERT INTO outbox (seq, written_at, version, saga_id, topic, key, headers, value)
SELECT o.seq - (n::bigint << 44), o.written_at, o.version, o.saga_id || '.' || n, o.topic, o.key, o.headers, o.value
FROM outbox o CROSS JOIN generate_series(1, $1::int) AS n

-- name: fill_inbox
INSERT INTO inbox (received_at, key, body_hash)
SELECT i.received_at, decode(md5(i.key || n::text::bytea), 'hex'), i.body_hash
FROM inbox i CROSS JOIN generate_series(1, $1::int) AS n

-- name: within
-- The schema whose tables the next statements of this transaction mean.
SELECT set_config('search_path', $1, true)

-- name: fill_participant
INSERT INTO inbox (tenant, key, wire_key, type, type_version, body_hash, first_started_at, started_at, starts,
                   outcome, reply, reply_type, reply_schema, closed, under, settled_at)
SELECT tenant, key || '.' || n, wire_key, type, type_version, body_hash, first_started_at, started_at, starts,
       outcome, reply, reply_type, reply_schema, closed, under, settled_at
FROM inbox CROSS JOIN generate_series(1, $1::int) AS n

-- name: vacuum
-- What a store that grew slowly has long had behind it: else the second run would share the disk with it.
VACUUM (ANALYZE)

-- name: checkpoint
CHECKPOINT

-- name: sealing_keys
-- How many persons have a key, beside the mark of the key file.
SELECT count(*) AS keys FROM vault_keys WHERE tenant <> '' AND wrapped IS NOT NULL
