-- What people ask: pages, HTTP, command line. Every statement takes the tenant first; lists are keyset pages.

-- name: read_as
SELECT set_config('orchestrator.tenant', $1, true)

-- name: sagas
-- Newest first. A filter that is null does not count. The list begins before an instant ($2, $3): as a condition of its own
-- beside the row comparison, the index would be read from its end all the way to there.
SELECT saga_id, tenant, name, definition_version, business_key, version, phase, outcome, stuck, waiting_for, ended, parent,
       started_at, recorded_at
FROM saga_heads
WHERE tenant = $1 AND version > 0 AND (started_at, saga_id) < ($2::bigint, $3::text)
  AND ($5::text IS NULL OR name = $5)
  AND ($6::int IS NULL OR definition_version = $6)
  AND ($7::text IS NULL OR business_key = $7)
  AND ($8::text IS NULL OR phase = $8)
  AND ($9::text IS NULL OR outcome = $9)
  AND ($10::text IS NULL OR starts_with(waiting_for, $10))
  AND ($11::text IS NULL OR parent = $11)
  AND ($12::bool IS NULL OR (stuck > 0) = $12)
  AND ($13::bool IS NULL OR ended = $13)
ORDER BY started_at DESC, saga_id DESC
LIMIT $4

-- name: saga
SELECT saga_id, tenant, name, definition_version, business_key, version, phase, outcome, stuck, waiting_for, ended, parent,
       started_at, recorded_at
FROM saga_heads
WHERE tenant = $1 AND saga_id = $2 AND version > 0

-- name: saga_by_key
-- The newest run; a live one begins after those that ended.
SELECT saga_id, tenant, name, definition_version, business_key, version, phase, outcome, stuck, waiting_for, ended, parent,
       started_at, recorded_at
FROM saga_heads
WHERE tenant = $1 AND business_key = $2 AND ($3::text IS NULL OR name = $3) AND version > 0
ORDER BY started_at DESC, saga_id DESC
LIMIT 1

-- name: records_of
SELECT r.saga_id, r.version, r.body, r.hash, coalesce(f.first_position + r.seq - f.first_seq, 0) AS position
FROM records r LEFT JOIN feed_sealed f ON f.first_seq = r.seq - (r.seq & 1048575)
WHERE r.tenant = $1 AND r.saga_id = $2 AND r.version > $3
ORDER BY r.version
LIMIT $4

-- name: head
SELECT version, hash FROM saga_heads WHERE tenant = $1 AND saga_id = $2 AND version > 0

-- name: counts
SELECT name, definition_version, phase, outcome, ended, count(*) AS sagas, count(*) FILTER (WHERE stuck > 0) AS stuck
FROM saga_heads
WHERE ($1::text IS NULL OR tenant = $1) AND version > 0
GROUP BY name, definition_version, phase, outcome, ended
ORDER BY name, definition_version, phase, outcome

-- name: tasks_for
-- Open tasks for any of the candidates, due first; each candidate's next ones come from one index range.
SELECT t.saga_id, t.activity, t.tenant, h.name AS saga_name, h.business_key, t.opened_at, t.due, t.closed_at, t.closed, t.data
FROM (
    SELECT DISTINCT found.due, found.saga_id, found.activity
    FROM unnest($6::text[]) AS wanted (candidate)
    CROSS JOIN LATERAL (
        SELECT c.due, c.saga_id, c.activity
        FROM task_candidates c
        WHERE c.tenant = $1 AND c.candidate = wanted.candidate AND (c.due, c.saga_id, c.activity) > ($2, $3, $4)
          AND NOT $7 = ANY (c.barred)
        ORDER BY c.due, c.saga_id, c.activity
        LIMIT $5
    ) AS found
    ORDER BY 1, 2, 3
    LIMIT $5
) AS next
JOIN tasks t ON t.saga_id = next.saga_id AND t.activity = next.activity
JOIN saga_heads h ON h.saga_id = t.saga_id
ORDER BY next.due, next.saga_id, next.activity

-- name: tasks
SELECT t.saga_id, t.activity, t.tenant, h.name AS saga_name, h.business_key, t.opened_at, t.due, t.closed_at, t.closed, t.data
FROM tasks t JOIN saga_heads h ON h.saga_id = t.saga_id
WHERE t.tenant = $1 AND (t.due, t.saga_id, t.activity) > ($2, $3, $4)
  AND ($6::text IS NULL OR t.saga_id = $6)
  AND ($7::text IS NULL OR t.closed = CASE $7 WHEN 'open' THEN '' ELSE $7 END)
ORDER BY t.due, t.saga_id, t.activity
LIMIT $5

-- name: task
SELECT t.saga_id, t.activity, t.tenant, h.name AS saga_name, h.business_key, t.opened_at, t.due, t.closed_at, t.closed, t.data
FROM tasks t JOIN saga_heads h ON h.saga_id = t.saga_id
WHERE t.tenant = $1 AND t.saga_id = $2 AND t.activity = $3

-- name: letters
-- Newest first; the bytes only with a single one.
SELECT id, tenant, topic, partition, "offset", reason, detail, message_id, kept_at, redriven_at
FROM dead_letters
WHERE tenant = $1 AND id < $2
  AND ($4::text IS NULL OR reason = $4)
  AND ($5::bool IS NULL OR (redriven_at IS NOT NULL) = $5)
ORDER BY id DESC
LIMIT $3

-- name: letter
SELECT id, tenant, topic, partition, "offset", reason, detail, message_id, kept_at, redriven_at, key, value, headers
FROM dead_letters
WHERE tenant = $1 AND id = $2

-- name: early_events
SELECT tenant, type, key, event_id, data, arrived_at, traceparent,
       array(SELECT c.name FROM consumed_events c
             WHERE c.tenant = e.tenant AND c.event_id = e.event_id ORDER BY c.name, c.business_key) AS names,
       array(SELECT c.business_key FROM consumed_events c
             WHERE c.tenant = e.tenant AND c.event_id = e.event_id ORDER BY c.name, c.business_key) AS business_keys
FROM early_events e
WHERE tenant = $1 AND (type, key, event_id) > ($2, $3, $4)
  AND ($6::text IS NULL OR type = $6)
ORDER BY type, key, event_id
LIMIT $5

-- name: waits
SELECT saga_id, activity, type, key, accepts_from
FROM waits
WHERE tenant = $1 AND ($2::text IS NULL OR saga_id = $2)
ORDER BY opened_at, saga_id, activity
LIMIT $3

-- name: all_positions
SELECT consumer_group, topic, partition, next_offset, read_until, updated_at
FROM positions
ORDER BY consumer_group, topic, partition

-- name: all_definitions
SELECT name, version, registered_at, hash FROM definitions ORDER BY name, version

-- name: definition
SELECT name, version, registered_at, hash, data FROM definitions WHERE name = $1 AND version = $2

-- name: backlog
-- Sizes are counted up to a limit, so that asking stays cheap when it matters most.
SELECT (SELECT count(*) FROM (SELECT FROM outbox_unsent LIMIT $1) AS u) AS unsent,
       (SELECT greatest(clock_us() - written_at, 0) FROM outbox_unsent ORDER BY seq LIMIT 1) AS unsent_age,
       (SELECT count(*) FROM (SELECT FROM timers WHERE due <= (SELECT clock_us()) LIMIT $1) AS t) AS timers,
       (SELECT greatest(clock_us() - due, 0) FROM timers WHERE due <= (SELECT clock_us()) ORDER BY due LIMIT 1) AS timer_age,
       (SELECT count(*) FROM (SELECT FROM resumes LIMIT $1) AS r) AS resumes,
       (SELECT count(*) FROM (SELECT FROM wait_checks LIMIT $1) AS c) AS checks,
       (SELECT count(*) FROM (SELECT FROM feed_unsealed LIMIT $1) AS f) AS unsealed,
       (SELECT count(*) FROM (SELECT FROM dead_letters WHERE redriven_at IS NULL LIMIT $1) AS d) AS letters,
       coalesce((SELECT first_position + last_seq - first_seq FROM feed_sealed ORDER BY first_position DESC LIMIT 1), 0)
           AS position,
       clock_us() AS now
