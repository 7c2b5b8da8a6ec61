-- What `audit verify` reads: pages of keys and rows, never whole tables; each page is one statement and its own snapshot.

-- name: order_page
-- The order table from a position on. $1: after this first_position.
SELECT first_position, first_seq, last_seq FROM feed_sealed WHERE first_position > $1::bigint
ORDER BY first_position LIMIT $2

-- name: record_page
-- Records in global order with what stands before and above them: the stored hash and place of the predecessor in the
-- stream, and the head's version. $1: after this position. See records_after in the store for the shape. Everything is
-- looked up one by one (OFFSET 0 keeps the planner from reading whole tables), under plain columns: row level security
-- lets no computed value into the condition of an index.
WITH page AS MATERIALIZED (
    SELECT s.first_position + (i.seq - s.first_seq) AS position, s.first_position, i.*, i.version - 1 AS before_version
    FROM feed_sealed s
    CROSS JOIN LATERAL (
        SELECT saga_id, version, tenant, hash, body, seq FROM records
        WHERE seq BETWEEN s.first_seq + greatest($1::bigint + 1 - s.first_position, 0) AND s.last_seq
        ORDER BY seq
        LIMIT $2
    ) i
    WHERE s.first_position >= coalesce((SELECT max(first_position) FROM feed_sealed WHERE first_position <= $1::bigint + 1), 0)
    ORDER BY s.first_position, i.seq
    LIMIT $2
)
SELECT r.position, r.saga_id, r.version, r.tenant, r.hash, r.body, r.seq,
       p.hash AS before_hash, p.seq AS before_seq, h.version AS head_version
FROM page r
LEFT JOIN LATERAL (
    SELECT hash, seq FROM records WHERE saga_id = r.saga_id AND version = r.before_version OFFSET 0
) p ON true
LEFT JOIN LATERAL (SELECT version FROM saga_heads WHERE saga_id = r.saga_id OFFSET 0) h ON true
ORDER BY r.first_position, r.seq

-- name: head_page
-- Heads with what their streams hold. $1: after this saga.
SELECT h.saga_id, h.tenant, h.name, h.business_key, h.version, h.hash, h.recorded_at,
       c.found, c.last, f.body AS first_body, l.hash AS last_hash, l.body AS last_body, l.tenant AS last_tenant
FROM (SELECT * FROM saga_heads WHERE saga_id > $1 ORDER BY saga_id LIMIT $2) h
CROSS JOIN LATERAL (
    SELECT count(*) AS found, coalesce(max(version), 0) AS last FROM records WHERE saga_id = h.saga_id
) c
LEFT JOIN records f ON f.saga_id = h.saga_id AND f.version = 1
LEFT JOIN records l ON l.saga_id = h.saga_id AND l.version = h.version
ORDER BY h.saga_id

-- name: stray_page
-- Of the records behind ($1, $2) in key order: the last one of the page, how many there are, and those that the order
-- does not know, that share a place in it, or that have no head. What was written a moment ago waits in feed_unsealed for its position.
WITH page AS MATERIALIZED (
    SELECT saga_id, version, seq, (seq >> 20) << 20 AS batch_seq, seq >> 20 AS batch FROM records
    WHERE (saga_id, version) > ($1, $2::int)
    ORDER BY saga_id, version
    LIMIT $3
), judged AS MATERIALIZED (
    SELECT p.saga_id, p.version, row_number() OVER (ORDER BY p.saga_id, p.version) AS place,
           s.last_seq IS NOT NULL AND p.seq <= s.last_seq
           OR u.records IS NOT NULL AND p.seq - p.batch_seq < u.records AS is_ordered,
           h.version IS NOT NULL AS has_head,
           d.found > 1 AS is_double
    FROM page p
    LEFT JOIN LATERAL (SELECT last_seq FROM feed_sealed WHERE first_seq = p.batch_seq OFFSET 0) s ON true
    LEFT JOIN LATERAL (SELECT records FROM feed_unsealed WHERE batch = p.batch OFFSET 0) u ON true
    LEFT JOIN LATERAL (SELECT version FROM saga_heads WHERE saga_id = p.saga_id OFFSET 0) h ON true
    CROSS JOIN LATERAL (SELECT count(*) AS found FROM records WHERE seq = p.seq OFFSET 0) d
)
SELECT saga_id, version, is_ordered, has_head, is_double, place FROM judged
WHERE NOT is_ordered OR NOT has_head OR is_double OR place = (SELECT max(place) FROM judged)
ORDER BY place

-- name: tiles
SELECT number, root, hashes FROM log_tiles
WHERE level = $1::smallint AND number >= $2::bigint AND number < $2::bigint + $3::bigint

-- name: tile_counts
SELECT level, count(*) AS found, max(number) AS last FROM log_tiles GROUP BY level ORDER BY level

-- name: position_since
-- The last position that a checkpoint signed before this instant covers.
SELECT coalesce(max(size), 0) AS position FROM log_checkpoints WHERE signed_at < $1::bigint

-- name: altered_definitions
-- Definitions whose data do not have their hash.
SELECT name, version FROM definitions WHERE encode(sha256(data), 'hex') <> hash ORDER BY name, version
