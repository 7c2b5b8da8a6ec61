-- Sagas by ids from elsewhere: filled behind the records, read by the search box.

-- name: take
-- One at a time: whoever comes second has nothing to do.
SELECT position FROM saga_finds_until FOR UPDATE SKIP LOCKED

-- name: begun
-- The first records of sagas in the next batches after a position, and where those batches end. The inner ORDER BY and
-- LIMIT keep the subquery apart, see records_after.
WITH next AS MATERIALIZED (
    SELECT first_position, first_seq, last_seq FROM feed_sealed
    WHERE first_position > $1 ORDER BY first_position LIMIT $2
)
SELECT NULL AS saga_id, NULL AS tenant, NULL AS body, max(first_position + last_seq - first_seq) AS until FROM next
UNION ALL
SELECT r.saga_id, r.tenant, r.body, NULL
FROM next s
CROSS JOIN LATERAL (
    SELECT saga_id, tenant, body, version FROM records
    WHERE seq BETWEEN s.first_seq AND s.last_seq
    ORDER BY seq
    LIMIT 1048576
) r
WHERE r.version = 1

-- name: add
INSERT INTO saga_finds (key, tenant, saga_id)
SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[])
ON CONFLICT (key, saga_id) DO NOTHING

-- name: move
UPDATE saga_finds_until SET position = $1

-- name: by_key
SELECT saga_id FROM saga_finds WHERE tenant = $1 AND key = $2 ORDER BY saga_id LIMIT $3

-- name: position
SELECT position FROM saga_finds_until
