-- What the loop that sends spans of records asks. Batches are read in order of their numbers; see migration 0150.

-- name: hold
-- $1: this process; $3: as what it tells. Whoever holds it already goes on; somebody else's hold must be over.
UPDATE trace_sender SET holder = $1, held_until = clock_us() + $2::bigint, told_as = $3
WHERE holder = $1 OR held_until < clock_us()
RETURNING true

-- name: let_go
UPDATE trace_sender SET held_until = 0 WHERE holder = $1

-- name: told_as
SELECT told_as FROM trace_sender

-- name: due
SELECT batch, places FROM trace_batches ORDER BY batch LIMIT $1

-- name: records_at
-- $1, $2: pairs of first and last seq. The inner ORDER BY and LIMIT keep the subquery apart: joined to the outside, row
-- level security would forbid the index on seq.
SELECT r.saga_id, r.version, r.body
FROM unnest($1::bigint[], $2::bigint[]) WITH ORDINALITY AS p (first_seq, last_seq, place)
CROSS JOIN LATERAL (
    SELECT seq, saga_id, version, body FROM records
    WHERE seq BETWEEN p.first_seq AND p.last_seq
    ORDER BY seq
    LIMIT 1048576
) r
ORDER BY p.place, r.seq

-- name: streams_before
SELECT r.saga_id, r.version, r.body
FROM unnest($1::text[], $2::int[]) AS s (saga_id, version)
JOIN records r ON r.saga_id = s.saga_id AND r.version < s.version
ORDER BY r.saga_id, r.version

-- name: stream
SELECT saga_id, version, body FROM records WHERE tenant = $1 AND saga_id = $2 ORDER BY version

-- name: sagas_between
-- Of one tenant, those that lived within an instant and another; $4 of them after the one named $5, in order of ids.
SELECT saga_id FROM saga_heads
WHERE tenant = $1 AND started_at < $3::bigint AND recorded_at >= $2::bigint AND version > 0 AND saga_id > $5
ORDER BY saga_id
LIMIT $4

-- name: sent
-- A crash of the server may bring rows back: their spans are sent again, and are the same.
WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
DELETE FROM trace_batches WHERE batch = ANY ($1::bigint[]) AND (SELECT true FROM relaxed)

-- name: give_up
-- All but the newest $1 batches, in order: what a collector that is away for long costs.
DELETE FROM trace_batches
WHERE batch <= coalesce((SELECT batch FROM trace_batches ORDER BY batch DESC OFFSET $1::bigint LIMIT 1), -1)
RETURNING batch
