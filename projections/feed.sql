-- What projections read of the store.

-- name: first_records
-- The first record of each saga: it says what the saga is.
SELECT saga_id, body FROM records WHERE saga_id = ANY ($1::text[]) AND version = 1

-- name: streams_before
-- What these sagas had done before a record of theirs.
SELECT r.saga_id, r.version, r.body, r.hash, 0::bigint AS position
FROM unnest($1::text[], $2::int[]) AS w (saga_id, below)
JOIN records r ON r.saga_id = w.saga_id AND r.version < w.below
ORDER BY r.saga_id, r.version

-- name: head
-- The last position that was given, and when its record was written is not asked: that would be a read of a record.
SELECT coalesce((SELECT first_position + last_seq - first_seq FROM feed_sealed ORDER BY first_position DESC LIMIT 1), 0)
       + coalesce((SELECT sum(records) FROM feed_unsealed), 0)::bigint AS head,
       clock_us() AS now

-- name: position_of
-- The global position of one record; none where its batch has not got one yet.
SELECT f.first_position + r.seq - f.first_seq AS position
FROM records r JOIN feed_sealed f ON f.first_seq = r.seq - (r.seq & 1048575)
WHERE r.saga_id = $1 AND r.version = $2

-- name: record_exists
SELECT EXISTS (SELECT FROM records WHERE saga_id = $1 AND version = $2) AS there
