-- What changed lately, for hints to open pages. Reads a bounded number of records, and of their bodies only the type.

-- name: head
SELECT coalesce((SELECT first_position + last_seq - first_seq FROM feed_sealed ORDER BY first_position DESC LIMIT 1), 0)
           AS position

-- name: changed_since
-- Which sagas got records after position $1, at most $2 records; whether one of them was of a task. The inner ORDER BY and
-- LIMIT keep the subquery apart, see records_after in work.sql.
SELECT found.tenant, found.saga_id, bool_or(found.of_task) AS of_task, max(found.position) AS position
FROM (
    SELECT r.tenant, r.saga_id, r.of_task, s.first_position + (r.seq - s.first_seq) AS position
    FROM feed_sealed s
    CROSS JOIN LATERAL (
        SELECT tenant, saga_id, seq, body LIKE '%"type":"task.%'::bytea AS of_task FROM records
        WHERE seq BETWEEN s.first_seq + greatest($1::bigint + 1 - s.first_position, 0) AND s.last_seq
        ORDER BY seq
        LIMIT $2
    ) r
    WHERE s.first_position >= coalesce((SELECT max(first_position) FROM feed_sealed WHERE first_position <= $1::bigint + 1), 0)
    ORDER BY s.first_position, r.seq
    LIMIT $2
) AS found
GROUP BY found.tenant, found.saga_id
