-- The inbox of a participant. Every transaction begins with `enter` or `enter_and_read`, which also choose the
-- participant's schema.

-- name: enter
-- Local to the transaction, so it holds behind a pooler too. The clock is read once: it is the transaction's `now`.
SELECT set_config('search_path', $1, true),
       set_config('statement_timeout', $2, true),
       set_config('lock_timeout', $3, true),
       set_config('idle_in_transaction_session_timeout', $4, true),
       clock_timestamp() AS now;

-- name: enter_and_read
-- `enter` and the rows of some keys in one answer: the clock comes with each row, and alone where there is none. The
-- schema is named, as search_path holds from the next statement on. A limit that is not known beforehand ($7: as many as
-- there are) lets the planner expect one key, and so use the index: also in a plan that was made while the table was
-- small and is kept while it grows.
WITH entered AS MATERIALIZED (
    SELECT set_config('search_path', $1, true), set_config('statement_timeout', $2, true),
           set_config('lock_timeout', $3, true), set_config('idle_in_transaction_session_timeout', $4, true),
           clock_timestamp() AS now)
SELECT e.now,
       i.tenant, i.key, i.wire_key, i.type, i.type_version, i.body_hash, i.command, i.first_started_at, i.started_at,
       i.lease_until, i.starts, i.outcome, i.reply, i.reply_type, i.reply_schema, i.closed, i.under
  FROM entered e
  LEFT JOIN ((SELECT tenant, key FROM unnest($5::text[], $6::text[]) AS given (tenant, key) LIMIT $7) AS wanted
             JOIN "{schema}".inbox i ON i.tenant = wanted.tenant AND i.key = wanted.key) ON true;

-- name: clock
SELECT clock_timestamp();

-- name: lock_rows
-- In the order of keys, so that two deliveries that share keys never wait for each other in a circle.
SELECT i.tenant, i.key, i.wire_key, i.type, i.type_version, i.body_hash, i.command, i.first_started_at, i.started_at,
       i.lease_until, i.starts, i.outcome, i.reply, i.reply_type, i.reply_schema, i.closed, i.under
  FROM inbox i
 WHERE (i.tenant, i.key) IN (SELECT t, k FROM unnest($1::text[], $2::text[]) AS wanted (t, k))
 ORDER BY i.tenant, i.key
   FOR UPDATE;

-- name: add_rows
-- Sorted, for the same reason. What most rows of a batch have in common comes once, as a kind ($6 and on): each element
-- of an array costs the driver more than the join costs here. Fewer rows than given means that somebody else has one of
-- these keys: roll back. How far everything was answered ($16 and on) comes along, by the rule of `write_positions`.
WITH progress AS (
    INSERT INTO positions AS p (topic, partition, next_offset)
    SELECT topic, partition, next_offset
      FROM unnest($16::text[], $17::int[], $18::bigint[]) AS n (topic, partition, next_offset)
     ORDER BY topic, partition
    ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset, updated_at = clock_timestamp()
     WHERE p.next_offset < excluded.next_offset)
INSERT INTO inbox (tenant, key, wire_key, type, type_version, body_hash, first_started_at, started_at, starts,
                   outcome, reply, reply_type, reply_schema, closed, under, settled_at)
SELECT k.tenant, r.key, r.wire_key, k.type, k.type_version, r.body_hash,
       CASE WHEN k.starts > 0 THEN $15::timestamptz END, CASE WHEN k.starts > 0 THEN $15::timestamptz END, k.starts,
       k.outcome, r.reply, k.reply_type, k.reply_schema, k.closed, k.under, $15::timestamptz
  FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::int[]) AS r (key, wire_key, body_hash, reply, kind)
  JOIN unnest($6::text[], $7::text[], $8::int[], $9::int[], $10::text[], $11::text[], $12::text[], $13::text[],
              $14::text[]) WITH ORDINALITY
       AS k (tenant, type, type_version, starts, outcome, reply_type, reply_schema, closed, under, kind)
    ON k.kind = r.kind
 ORDER BY k.tenant, r.key
ON CONFLICT (tenant, key) DO NOTHING;

-- name: start
-- The first start of an effect outside this database. No row: somebody else has the key.
INSERT INTO inbox (tenant, key, wire_key, type, type_version, body_hash, command, first_started_at, started_at,
                   lease_until, starts)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::timestamptz, $8::timestamptz, $9, 1)
ON CONFLICT (tenant, key) DO NOTHING
RETURNING starts;

-- name: start_again
-- Another start of the same effect; only for whoever saw the latest start. No row: things have moved.
UPDATE inbox
   SET started_at = $4, lease_until = greatest(lease_until, $5::timestamptz), starts = starts + 1
 WHERE tenant = $1 AND key = $2 AND starts = $3 AND outcome IS NULL AND closed IS NULL
RETURNING starts;

-- name: settle
-- Stores the outcome of an effect outside this database. $7: only if this is still the latest start (a refusal says
-- nothing about a call that was sent after it). No row: it has an outcome already, or there was a later start.
UPDATE inbox
   SET outcome = $3, reply = $4, reply_type = $5, reply_schema = $6, settled_at = clock_timestamp()
 WHERE tenant = $1 AND key = $2 AND outcome IS NULL AND ($7::int IS NULL OR starts = $7)
RETURNING closed;

-- name: close
-- Refuses a started key for ever (fenced), or says that its outcome can never be known (never). No row: it has moved.
UPDATE inbox
   SET closed = $4, settled_at = clock_timestamp()
 WHERE tenant = $1 AND key = $2 AND starts = $3 AND outcome IS NULL AND closed IS NULL
RETURNING closed;

-- name: unstart
-- The handler says that nothing was sent: a first start never happened.
DELETE FROM inbox
 WHERE tenant = $1 AND key = $2 AND starts = 1 AND $3 = 1 AND outcome IS NULL AND closed IS NULL
RETURNING key;

-- name: release_lease
-- The latest call has answered, or was never sent: only earlier ones can still arrive, until the earlier lease.
UPDATE inbox SET lease_until = $4
 WHERE tenant = $1 AND key = $2 AND starts = $3 AND outcome IS NULL AND closed IS NULL
RETURNING key;

-- name: read_positions
SELECT topic, partition, next_offset FROM positions
 WHERE (topic, partition) IN (SELECT t, p FROM unnest($1::text[], $2::int[]) AS wanted (t, p));

-- name: write_positions
-- Never backwards: a slow process that has lost the partition must not undo its successor's progress.
INSERT INTO positions AS p (topic, partition, next_offset)
SELECT topic, partition, next_offset FROM unnest($1::text[], $2::int[], $3::bigint[]) AS n (topic, partition, next_offset)
 ORDER BY topic, partition
ON CONFLICT (topic, partition) DO UPDATE SET next_offset = excluded.next_offset, updated_at = clock_timestamp()
 WHERE p.next_offset < excluded.next_offset;

-- name: keep_dead_letter
INSERT INTO dead_letters (topic, partition, message_offset, message_key, value, header_names, header_values, reason, detail)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (topic, partition, message_offset, reason) DO NOTHING;

-- name: forget_old
-- Settled rows older than $1 days, at most $2 of them.
DELETE FROM inbox
 WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM inbox WHERE settled_at < clock_timestamp() - make_interval(days => $1) LIMIT $2));

-- name: savepoint
SAVEPOINT handler;

-- name: roll_back_to_savepoint
ROLLBACK TO SAVEPOINT handler;

-- name: release_savepoint
RELEASE SAVEPOINT handler;
