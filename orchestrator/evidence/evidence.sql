-- The tree over all records and its checkpoints: reading nodes, adding tiles, signing.

-- name: leaves
-- Leaf hashes of the records at positions $1 + 1 to $1 + $2, packed in their order; bodies do not travel. See
-- records_after in the store for the shape.
SELECT coalesce(string_agg(l.leaf, ''::bytea ORDER BY l.position), ''::bytea) AS leaves,
       count(*) AS found, coalesce(max(l.position), $1::bigint) AS last
FROM (
    SELECT r.leaf, s.first_position + (r.seq - s.first_seq) AS position
    FROM feed_sealed s
    CROSS JOIN LATERAL (
        SELECT seq, sha256('\x00'::bytea || body) AS leaf FROM records
        WHERE seq BETWEEN s.first_seq + greatest($1::bigint + 1 - s.first_position, 0)
                  AND least(s.last_seq, s.first_seq + $1::bigint + $2::bigint - s.first_position)
        ORDER BY seq
        LIMIT $2
    ) r
    WHERE s.first_position >= coalesce((SELECT max(first_position) FROM feed_sealed WHERE first_position <= $1::bigint + 1), 0)
      AND s.first_position <= $1::bigint + $2::bigint
    ORDER BY s.first_position, r.seq
    LIMIT $2
) l

-- name: sealed_end
-- The last global position that was given.
SELECT coalesce((SELECT first_position + last_seq - first_seq FROM feed_sealed ORDER BY first_position DESC LIMIT 1), 0)
       AS last

-- name: tile_slices
-- Of each tile some of its hashes; a tile that is not there gives no row.
SELECT w.place, substring(t.hashes FROM w.first * 32 + 1 FOR w.count * 32) AS hashes
FROM unnest($1::int[], $2::bigint[], $3::int[], $4::int[]) WITH ORDINALITY AS w (level, number, first, count, place)
JOIN log_tiles t ON t.level = w.level::smallint AND t.number = w.number

-- name: tile_roots
SELECT number, root FROM log_tiles WHERE level = $1::smallint AND number >= $2::bigint AND number < $3::bigint
ORDER BY number

-- name: add_tiles
INSERT INTO log_tiles (level, number, root, hashes)
SELECT t.level::smallint, t.number, t.root, t.hashes
FROM unnest($1::int[], $2::bigint[], $3::bytea[], $4::bytea[]) AS t (level, number, root, hashes)

-- name: latest_checkpoint
SELECT number, size, root, signed_at, note FROM log_checkpoints ORDER BY number DESC LIMIT 1

-- name: checkpoint_at
SELECT number, size, root, signed_at, note FROM log_checkpoints WHERE number = $1

-- name: covering_checkpoint
-- The first that has this position in its tree.
SELECT number, size, root, signed_at, note FROM log_checkpoints WHERE size >= $1::bigint ORDER BY size, number LIMIT 1

-- name: checkpoints_after
SELECT number, size, root, signed_at, note FROM log_checkpoints WHERE number > $1::bigint ORDER BY number LIMIT $2

-- name: add_checkpoint
INSERT INTO log_checkpoints (number, size, signed_at, root, note) VALUES ($1, $2, $3, $4, $5)

-- name: positions_of
-- The global positions of a saga's records; what has none yet is not in the answer.
SELECT r.version, s.first_position + (r.seq - s.first_seq) AS position
FROM records r
JOIN feed_sealed s ON s.first_seq = (r.seq >> 20) << 20 AND r.seq <= s.last_seq
WHERE r.saga_id = $1
ORDER BY r.version

-- name: sign_lock
-- One process signs at a time; whoever comes second does nothing.
SELECT pg_try_advisory_xact_lock($1, 0) AS got, clock_us() AS now

-- name: sign_wait
-- Until nobody signs.
SELECT pg_advisory_xact_lock($1, 0)

-- name: new_breaks
-- Accepted breaks that no checkpoint has declared. $1: the number of the last one; numbers never go back, clocks do.
SELECT size, root, note FROM log_breaks WHERE own_number >= $1::bigint ORDER BY size, root

-- name: breaks
SELECT accepted_at, size, root, own_size, own_root, accepted_by, reason, note FROM log_breaks ORDER BY accepted_at

-- name: add_break
-- Under sign_wait, in a statement of its own: so it sees the last checkpoint, and the next one sees this break. $6: the
-- root of no records.
INSERT INTO log_breaks (accepted_at, size, root, accepted_by, reason, note, own_number, own_size, own_root)
SELECT clock_us(), $1, $2, $3, $4, $5, coalesce(c.number, 0), coalesce(c.size, 0), coalesce(c.root, $6)
FROM (VALUES (1)) AS one LEFT JOIN (SELECT number, size, root FROM log_checkpoints ORDER BY number DESC LIMIT 1) c ON true
ON CONFLICT (size, root) DO NOTHING

-- name: now
SELECT clock_us() AS now

-- name: add_allowance
-- $7: for so many microseconds.
INSERT INTO log_allowances (allowed_at, until, seen_number, seen_size, seen_at, allowed_by, reason, note)
SELECT now, now + $7::bigint, $1, $2, $3, $4, $5, $6 FROM (SELECT clock_us() AS now) AS at
ON CONFLICT (allowed_at, allowed_by) DO NOTHING

-- name: allowances
SELECT allowed_at, until, seen_number, seen_size, seen_at, allowed_by, reason, note FROM log_allowances
WHERE until > $1::bigint ORDER BY allowed_at, allowed_by

-- name: lease_place
-- One process publishes to a place at a time. $3: for so many microseconds.
INSERT INTO log_places AS p (place, holder, leased_until) VALUES ($1, $2, clock_us() + $3::bigint)
ON CONFLICT (place) DO UPDATE SET holder = excluded.holder, leased_until = excluded.leased_until
WHERE p.holder = excluded.holder OR p.leased_until < clock_us()
RETURNING p.number

-- name: release_place
UPDATE log_places SET leased_until = 0 WHERE place = $1 AND holder = $2

-- name: place_published
UPDATE log_places SET number = $2, size = $3, published_at = clock_us(), trouble = '', trouble_at = 0 WHERE place = $1

-- name: place_in_trouble
UPDATE log_places
SET trouble_at = CASE WHEN trouble = '' THEN clock_us() ELSE trouble_at END, trouble = $2
WHERE place = $1

-- name: places
SELECT place, number, size, published_at, trouble, trouble_at FROM log_places ORDER BY place

-- name: last_record
-- The last record that has a position.
SELECT r.saga_id, r.version, s.first_position + (r.seq - s.first_seq) AS position, h.recorded_at
FROM (SELECT * FROM feed_sealed ORDER BY first_position DESC LIMIT 1) AS s
CROSS JOIN LATERAL (
    SELECT saga_id, version, seq FROM records WHERE seq BETWEEN s.first_seq AND s.last_seq ORDER BY seq DESC LIMIT 1
) r
JOIN saga_heads h USING (saga_id)
