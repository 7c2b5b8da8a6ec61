-- What `audit verify` reads: pages of keys and rows, never whole tables; each page is one statement and its own snapshot.

-- name: order_page
-- The order table from a position on. $1: after this first_position.
SELECT first_position, first_seq, last_seq FROM feed_sealed WHERE first_position > $1::bigint
ORDER BY first_position LIMIT $2

-- name: record_page
-- Records in global order with what stands before and above them: the stored hash and place of the predecessor in the
-- stream, and the head's version. $1: after this position. See records_after in the store for the shape.
SELECT r.position, r.saga_id, r.version, r.tenant, r.hash, r.body, r.seq,
       p.hash AS before_hash, p.seq AS before_seq, h.version AS head_version
FROM (
    SELECT s.first_position + (i.seq - s.first_seq) AS position, s.first_position, i.*
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
) r
LEFT JOIN records p ON p.saga_id = r.saga_id AND p.version = r.version - 1
LEFT JOIN saga_heads h ON h.saga_id = r.saga_id
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
    SELECT saga_id, version, seq FROM records WHERE (saga_id, version) > ($1, $2::int) ORDER BY saga_id, version LIMIT $3
), judged AS MATERIALIZED (
    SELECT p.saga_id, p.version, row_number() OVER (ORDER BY p.saga_id, p.version) AS place,
           EXISTS (SELECT FROM feed_sealed s WHERE s.first_seq = (p.seq >> 20) << 20 AND p.seq <= s.last_seq)
           OR EXISTS (
               SELECT FROM feed_unsealed u WHERE u.batch = p.seq >> 20 AND (p.seq & 1048575) < u.records
           ) AS is_ordered,
           EXISTS (SELECT FROM saga_heads h WHERE h.saga_id = p.saga_id) AS has_head,
           EXISTS (
               SELECT FROM records d WHERE d.seq = p.seq AND (d.saga_id, d.version) IS DISTINCT FROM (p.saga_id, p.version)
           ) AS is_double
    FROM page p
)
SELECT saga_id, version, is_ordered, has_head, is_double, place FROM judged
WHERE NOT is_ordered OR NOT has_head OR is_double OR place = (SELECT max(place) FROM judged)
ORDER BY place

-- name: tile
SELECT root, hashes FROM log_tiles WHERE level = $1::smallint AND number = $2::bigint

-- name: tile_counts
SELECT level, count(*) AS found, max(number) AS last FROM log_tiles GROUP BY level ORDER BY level

-- name: position_since
-- The last position that a checkpoint signed before this instant covers.
SELECT coalesce(max(size), 0) AS position FROM log_checkpoints WHERE signed_at < $1::bigint
