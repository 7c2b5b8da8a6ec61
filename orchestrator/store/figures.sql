-- What metrics tell of the whole product. Each is an index range or a handful of rows, counted up to a limit, in one
-- read-only transaction with a time limit of its own.

-- name: limited
SELECT set_config('statement_timeout', $1, true)

-- name: in_flight
-- $1: tenants, $2: at most so many of each saga. Sagas that are installed and do not run are there with 0.
SELECT d.name, (SELECT count(*)
                FROM (SELECT FROM live_runs l WHERE l.tenant = ANY ($1::text[]) AND l.name = d.name LIMIT $2) AS r)
FROM (SELECT DISTINCT name FROM definitions) AS d

-- name: stuck
-- $1: at most so many.
SELECT d.name, count(s.name)
FROM (SELECT DISTINCT name FROM definitions) AS d
LEFT JOIN (SELECT h.name FROM saga_heads h WHERE h.stuck > 0 LIMIT $1) AS s USING (name)
GROUP BY d.name

-- name: tasks
-- $1: tenants, $2: at most so many of each, those that are due first. Steps by their names in the
-- definition, without where they lie: as on spans.
SELECT g.name, regexp_replace(regexp_replace(g.activity, '\[[^]]*\]', '', 'g'), '^.*/', '') AS step, g.state,
       sum(g.number)::bigint, max(g.overdue)::float8 / 1000000 AS overdue_seconds
FROM (SELECT h.name, t.activity, CASE WHEN t.due < now.us THEN 'overdue' ELSE 'in_time' END AS state,
             count(*) AS number, greatest(max(now.us - t.due), 0) AS overdue
      FROM (SELECT clock_us() AS us) AS now
      CROSS JOIN unnest($1::text[]) AS w (tenant)
      CROSS JOIN LATERAL (SELECT o.saga_id, o.activity, o.due FROM tasks o
                          WHERE o.tenant = w.tenant AND o.closed = '' ORDER BY o.due LIMIT $2) AS t
      JOIN saga_heads h ON h.saga_id = t.saga_id
      GROUP BY 1, 2, 3) AS g
GROUP BY 1, 2, 3

-- name: flow
-- $1: group, $2: topics, $3: at most so many unsent messages. Seconds. A timer whose command is not on the broker yet
-- is not late: its clock has not begun.
SELECT (SELECT count(*) FROM (SELECT FROM outbox_unsent LIMIT $3) AS u) AS unsent,
       coalesce((SELECT greatest(clock_us() - u.written_at, 0) FROM outbox_unsent u ORDER BY u.seq LIMIT 1), 0)::float8
           / 1000000 AS unsent_seconds,
       coalesce((SELECT greatest(clock_us() - min(p.read_until), 0) FROM positions p
                 WHERE p.consumer_group = $1 AND p.topic = ANY ($2::text[]) AND p.read_until > 0), 0)::float8
           / 1000000 AS intake_seconds,
       coalesce((SELECT clock_us() - min(t.due)
                 FROM (SELECT due, command_seq FROM timers WHERE due < clock_us() ORDER BY due LIMIT 1000) AS t
                 WHERE NOT EXISTS (SELECT FROM outbox_unsent u WHERE u.seq = t.command_seq)), 0)::float8
           / 1000000 AS timer_seconds,
       (SELECT count(*) FROM (SELECT FROM early_events LIMIT $3) AS e) AS early

-- name: notices
-- $1: at most so many, those that are due first. What was tried in vain is put off again and again: it is as old as its
-- planning. What is not due, and was not tried, waits for its hour.
SELECT n.channel, count(*), max(n.age)::float8 / 1000000 AS seconds
FROM (SELECT o.channel,
             greatest(clock_us() - CASE WHEN o.reason <> '' THEN o.planned_at ELSE o.due END, 0) AS age
      FROM notice_outbox o WHERE o.state = 'waiting' ORDER BY o.due, o.id LIMIT $1) AS n
GROUP BY n.channel

-- name: letters
-- $1: at most so many.
SELECT reason, count(*) FROM (SELECT reason FROM dead_letters WHERE redriven_at IS NULL LIMIT $1) AS l GROUP BY reason

-- name: projections
SELECT s.projection, s.stopped <> '' AS stopped, greatest(f.head - s.position, 0) AS behind,
       (clock_us() - nullif(s.read_until, 0))::float8 / 1000000 AS seconds
FROM projection_slots s,
     (SELECT coalesce((SELECT first_position + last_seq - first_seq FROM feed_sealed
                       ORDER BY first_position DESC LIMIT 1), 0)
             + coalesce((SELECT sum(records) FROM feed_unsealed), 0)::bigint AS head) AS f
WHERE s.live

-- name: checkpoints
-- How far the log is sealed ('' for a place), and how far each place has the checkpoints.
SELECT '' AS place, false AS stopped, greatest(f.head - coalesce(c.size, 0), 0) AS behind,
       (clock_us() - c.signed_at)::float8 / 1000000 AS seconds
FROM (SELECT coalesce((SELECT first_position + last_seq - first_seq FROM feed_sealed
                       ORDER BY first_position DESC LIMIT 1), 0)
             + coalesce((SELECT sum(records) FROM feed_unsealed), 0)::bigint AS head) AS f
LEFT JOIN (SELECT size, signed_at FROM log_checkpoints ORDER BY number DESC LIMIT 1) AS c ON true
UNION ALL
SELECT p.place, p.trouble <> '', greatest(coalesce((SELECT max(number) FROM log_checkpoints), 0) - p.number, 0),
       (clock_us() - nullif(p.published_at, 0))::float8 / 1000000
FROM log_places p
