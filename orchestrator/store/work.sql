-- What relay, timers and intake ask: each statement is its own transaction unless it says otherwise.

-- name: unsent
-- The oldest of the shard; within a saga, older is also the lower version.
SELECT o.saga_id, o.version, o.topic, o.key, o.headers, o.value, seq
FROM (SELECT seq FROM outbox_unsent WHERE slot % $2 = $1 ORDER BY seq LIMIT $3) AS u
JOIN outbox o USING (seq)
ORDER BY o.saga_id, o.version

-- name: sequence_of
-- For messages that this process neither wrote nor read: looks through all that is unsent. $1: saga id/version.
SELECT seq FROM outbox_unsent u JOIN outbox o USING (seq) WHERE o.saga_id || '/' || o.version = ANY ($1::text[])

-- name: mark_sent
-- An attempt's clock starts when its command was published: where that took long, its timer starts now. A timer that a
-- batch holds at this moment is about to change anyway, so nobody waits for it. Nobody waits for the disk either: a mark
-- that a crash of the server loses is a message sent twice, which everybody who reads it knows how to take.
WITH relaxed AS MATERIALIZED (
    SELECT set_config('synchronous_commit', 'off', true)
), sent AS (
    DELETE FROM outbox_unsent WHERE seq = ANY ($1::bigint[]) AND (SELECT true FROM relaxed) RETURNING seq, written_at
), slow AS (
    SELECT t.saga_id, t.activity
    FROM sent s JOIN outbox o USING (seq) JOIN timers t ON t.saga_id = o.saga_id AND t.command_seq = s.seq
    WHERE s.written_at < (SELECT clock_us()) - $2::bigint
    FOR UPDATE OF t SKIP LOCKED
)
UPDATE timers t SET due = (SELECT clock_us()) + t.period
FROM slow WHERE t.saga_id = slow.saga_id AND t.activity = slow.activity

-- name: due_timers
SELECT t.saga_id, t.activity, t.armed, EXISTS (SELECT FROM outbox_unsent u WHERE u.seq = t.command_seq) AS unsent
FROM timers t
WHERE t.due <= (SELECT least(clock_us(), $1::bigint))
ORDER BY t.due
LIMIT $2

-- name: postpone_timers
-- Still unsent: the attempt has all its time before it. Somebody else's hands on the timer mean that it is being changed.
WITH late AS (
    SELECT t.saga_id, t.activity
    FROM unnest($1::text[], $2::text[], $3::int[]) AS l (saga_id, activity, armed)
    JOIN timers t USING (saga_id, activity, armed)
    FOR UPDATE OF t SKIP LOCKED
)
UPDATE timers t SET due = (SELECT clock_us()) + greatest(t.period, $4)
FROM late WHERE t.saga_id = late.saga_id AND t.activity = late.activity

-- name: due_resumes
SELECT saga_id FROM resumes ORDER BY since, saga_id LIMIT $1

-- name: open_checks
-- The oldest, with the key to lock; a check without its wait has nothing to wait for and any key will do.
SELECT coalesce(w.tenant, '') AS tenant, c.type, c.key, c.saga_id, c.activity
FROM (SELECT * FROM wait_checks ORDER BY since, saga_id, activity LIMIT $1) AS c
LEFT JOIN waits w USING (saga_id, activity, type, key)
ORDER BY c.since, c.saga_id, c.activity

-- name: wanted_checks
-- Asked under the locks of the keys: of those given, the checks that are still open and for whose key something is kept.
-- When it arrived, and whether it is still to be had, is the saga's business.
SELECT c.saga_id, c.activity, c.type, c.key, w.accepts_from
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS g (type, key, saga_id, activity, n)
JOIN wait_checks c USING (saga_id, activity, type, key)
JOIN waits w USING (saga_id, activity, type, key)
WHERE EXISTS (SELECT FROM early_events e WHERE e.tenant = w.tenant AND e.type = c.type AND e.key = c.key)
ORDER BY n

-- name: tick_off
-- Under the same locks: those given for which nothing is kept. What somebody else holds at this moment can wait.
WITH idle AS (
    SELECT c.saga_id, c.activity, c.type, c.key
    FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS g (type, key, saga_id, activity)
    JOIN wait_checks c USING (saga_id, activity, type, key)
    WHERE NOT EXISTS (
        SELECT FROM waits w JOIN early_events e ON e.tenant = w.tenant AND e.type = w.type AND e.key = w.key
        WHERE w.saga_id = c.saga_id AND w.activity = c.activity AND w.type = c.type AND w.key = c.key)
    FOR UPDATE OF c SKIP LOCKED
)
DELETE FROM wait_checks c USING idle i
WHERE c.saga_id = i.saga_id AND c.activity = i.activity AND c.type = i.type AND c.key = i.key

-- name: positions
SELECT topic, partition, next_offset
FROM unnest($2::text[], $3::int[]) AS p (topic, partition)
JOIN positions USING (topic, partition)
WHERE consumer_group = $1

-- name: read_until
SELECT min(read_until) AS read_until FROM positions WHERE consumer_group = $1

-- name: register_definition
INSERT INTO definitions (name, version, registered_at, hash, data) VALUES ($1, $2, clock_us(), $3, $4)
ON CONFLICT (name, version) DO NOTHING

-- name: definition_hash
SELECT hash FROM definitions WHERE name = $1 AND version = $2

-- name: seal_lock
-- One sealer at a time; whoever comes second reads what is sealed.
SELECT pg_try_advisory_xact_lock($1, 0) AS got

-- name: seal
-- Second statement of the transaction, so that it sees what the last sealer has committed.
WITH visible AS (
    SELECT batch, records FROM feed_unsealed ORDER BY batch LIMIT $1
), gone AS (
    DELETE FROM feed_unsealed f USING visible v WHERE f.batch = v.batch RETURNING f.batch, f.records
), last AS (
    SELECT coalesce((SELECT first_position + last_seq - first_seq + 1
                     FROM feed_sealed ORDER BY first_position DESC LIMIT 1), 1) AS next
)
INSERT INTO feed_sealed (first_position, first_seq, last_seq)
SELECT last.next + sum(records) OVER (ORDER BY batch) - records, batch << 20, (batch << 20) + records - 1 FROM gone, last

-- name: unsealed
SELECT EXISTS (SELECT FROM feed_unsealed) AS any

-- name: records_after
-- Batch by batch in sealed order; within a batch seq has no gaps. The first batch may lie partly at or before $1. The inner
-- ORDER BY and LIMIT keep the subquery apart: joined to the outside, row level security would forbid the index on seq.
SELECT r.saga_id, r.version, r.body, r.hash, s.first_position + (r.seq - s.first_seq) AS position
FROM feed_sealed s
CROSS JOIN LATERAL (
    SELECT saga_id, version, body, hash, seq FROM records
    WHERE seq BETWEEN s.first_seq + greatest($1::bigint + 1 - s.first_position, 0) AND s.last_seq
    ORDER BY seq
    LIMIT $2
) r
WHERE s.first_position >= coalesce((SELECT max(first_position) FROM feed_sealed WHERE first_position <= $1::bigint + 1), 0)
ORDER BY s.first_position, r.seq
LIMIT $2
