-- Trimming by age, a few blocks at a time. $1 and $2 bound a range of blocks, so no index on age is needed on the hot
-- way in, and a pass never holds more than a few rows at once.

-- name: blocks
SELECT (pg_relation_size($1::text::regclass) / current_setting('block_size')::int)::bigint AS blocks

-- name: trim_inbox
DELETE FROM inbox WHERE ctid >= $1::tid AND ctid < $2::tid AND received_at < (SELECT clock_us()) - $3::bigint

-- name: trim_outbox
-- Never what is still to be sent, however old.
DELETE FROM outbox o
WHERE o.ctid >= $1::tid AND o.ctid < $2::tid AND o.written_at < (SELECT clock_us()) - $3::bigint
  AND NOT EXISTS (SELECT FROM outbox_unsent u WHERE u.seq = o.seq)

-- name: trim_tasks
DELETE FROM tasks WHERE ctid >= $1::tid AND ctid < $2::tid AND closed_at < (SELECT clock_us()) - $3::bigint

-- name: trim_early_events
DELETE FROM early_events WHERE ctid >= $1::tid AND ctid < $2::tid AND kept_at < (SELECT clock_us()) - $3::bigint

-- name: trim_consumed_events
-- As long as the event itself is kept, somebody could be offered it again.
DELETE FROM consumed_events c
WHERE c.ctid >= $1::tid AND c.ctid < $2::tid AND c.consumed_at < (SELECT clock_us()) - $3::bigint
  AND NOT EXISTS (SELECT FROM early_events e WHERE e.tenant = c.tenant AND e.event_id = c.event_id)

-- name: trim_dead_letters
-- Only those that were processed since: the others wait for a person.
DELETE FROM dead_letters
WHERE ctid >= $1::tid AND ctid < $2::tid AND redriven_at < (SELECT clock_us()) - $3::bigint

-- name: trim_security_log
-- The application may not delete from it; this may, as its owner, and never what is younger than the owner allows.
SELECT trim_security_log($1, $2) AS gone

-- name: orphans
-- Live sagas of a slice that wait for nothing that exists (kernel rule 29): no stuck place, timer, wait, open task, due
-- resume, live child, and no message on its way out. `last` is the end of the slice, null at the end of the table.
WITH slice AS MATERIALIZED (
    SELECT saga_id, stuck, ended FROM saga_heads WHERE saga_id > $1 ORDER BY saga_id LIMIT $2
), idle AS MATERIALIZED (
    SELECT saga_id FROM slice s
    WHERE NOT ended AND stuck = 0
      AND NOT EXISTS (SELECT FROM timers t WHERE t.saga_id = s.saga_id)
      AND NOT EXISTS (SELECT FROM waits w WHERE w.saga_id = s.saga_id)
      AND NOT EXISTS (SELECT FROM tasks t WHERE t.saga_id = s.saga_id AND t.closed = '')
      AND NOT EXISTS (SELECT FROM resumes r WHERE r.saga_id = s.saga_id)
      AND NOT EXISTS (SELECT FROM saga_heads c WHERE c.parent = s.saga_id AND c.parent <> '' AND NOT c.ended)
)
SELECT array(SELECT saga_id FROM idle
             WHERE NOT EXISTS (SELECT FROM outbox_unsent u JOIN outbox o USING (seq) WHERE o.saga_id = idle.saga_id)
             ORDER BY saga_id) AS orphans,
       CASE WHEN (SELECT count(*) FROM slice) = $2 THEN (SELECT max(saga_id) FROM slice) END AS last
