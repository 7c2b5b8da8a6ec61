-- name: put
INSERT INTO journeys_{slot} AS j (
    position, started_at, changed_at, ended_at, place_since, due, deadline, version, definition_version, stuck, tenant, saga_id,
    name, business_key, customer, phase, outcome, place, place_kind, places)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::int[],
                     $9::int[], $10::int[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[],
                     $17::text[], $18::text[], $19::text[], $20::bytea[])
ON CONFLICT (saga_id) DO UPDATE
SET position = excluded.position, changed_at = excluded.changed_at, ended_at = excluded.ended_at,
    place_since = excluded.place_since, due = excluded.due, deadline = excluded.deadline, version = excluded.version,
    stuck = excluded.stuck, phase = excluded.phase, outcome = excluded.outcome, place = excluded.place,
    place_kind = excluded.place_kind, places = excluded.places

-- name: add_spans
INSERT INTO journey_spans_{slot} (
    position, opened_at, closed_at, definition_version, attempts, tenant, saga_id, name, activity, node, kind, outcome)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[], $5::int[], $6::text[], $7::text[], $8::text[],
                     $9::text[], $10::text[], $11::text[], $12::text[])

-- name: count
-- In the order of the key, so that two who count never wait for each other in a circle.
INSERT INTO journey_levels_{slot} AS l (hour, n, tenant, name, metric)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::text[], $5::text[])
ON CONFLICT (tenant, name, hour, metric) DO UPDATE SET n = l.n + excluded.n

-- name: one
SELECT * FROM journeys_{slot} WHERE tenant = $1 AND saga_id = $2

-- name: by_key
SELECT * FROM journeys_{slot}
WHERE tenant = $1 AND business_key = $2 AND ($3::text IS NULL OR customer = $3) AND name = ANY ($4::text[])
ORDER BY started_at DESC, saga_id DESC
LIMIT 1

-- name: passed
SELECT activity, node, kind, opened_at, closed_at, outcome, attempts
FROM journey_spans_{slot}
WHERE tenant = $1 AND saga_id = $2
ORDER BY position, activity, kind
LIMIT $3

-- name: durations
-- How long the last stays at each node took: a tenth, half and 95 of 100 were over by then, microseconds.
SELECT w.node, percentile_cont(ARRAY[0.1, 0.5, 0.95]) WITHIN GROUP (ORDER BY s.took) AS took
FROM unnest($3::text[]) AS w (node)
CROSS JOIN LATERAL (
    SELECT closed_at - opened_at AS took
    FROM journey_spans_{slot}
    WHERE tenant = $1 AND name = $2 AND node = w.node AND kind <> 'undo' AND outcome <> 'withdrawn'
    ORDER BY closed_at DESC
    LIMIT $4
) AS s
GROUP BY w.node

-- name: search
-- Newest first; a filter that is null does not count. The list begins at the end of a span of time ($2, $3).
SELECT * FROM journeys_{slot}
WHERE tenant = $1 AND (started_at, saga_id) < ($2::bigint, $3::text)
  AND ($5::text IS NULL OR name = $5)
  AND ($6::int IS NULL OR definition_version = $6)
  AND ($7::text IS NULL OR business_key = $7)
  AND ($8::text IS NULL OR customer = $8)
  AND ($9::text IS NULL OR phase = $9)
  AND ($10::text IS NULL OR outcome = $10)
  AND ($11::text IS NULL OR place = $11)
  AND ($12::bool IS NULL OR (stuck > 0) = $12)
  AND ($13::bigint IS NULL OR started_at >= $13)
ORDER BY started_at DESC, saga_id DESC
LIMIT $4

-- name: risky
-- What is due next comes first.
SELECT * FROM journeys_{slot}
WHERE tenant = $1 AND due < 9223372036854775807 AND (due, saga_id) > ($2, $3)
ORDER BY due, saga_id
LIMIT $4

-- name: crowds
-- Where sagas stand, by node. The nodes are found by jumping from each to the next in the index, and their sagas counted
-- there, up to a limit ($3). Those that began first are looked at ($4): the longest stay and what is overdue is among them.
WITH RECURSIVE places AS (
    (SELECT name, place FROM journeys_{slot}
     WHERE tenant = $1 AND place <> '' AND ($2::text IS NULL OR name = $2) ORDER BY name, place LIMIT 1)
    UNION ALL
    SELECT n.name, n.place
    FROM places p CROSS JOIN LATERAL (
        SELECT j.name, j.place FROM journeys_{slot} j
        WHERE j.tenant = $1 AND j.place <> '' AND ($2::text IS NULL OR j.name = $2) AND (j.name, j.place) > (p.name, p.place)
        ORDER BY j.name, j.place
        LIMIT 1
    ) AS n
)
SELECT p.name, p.place, f.kind, c.waiting, f.overdue, f.oldest
FROM places p CROSS JOIN LATERAL (
    SELECT count(*) AS waiting
    FROM (
        SELECT FROM journeys_{slot} j
        WHERE j.tenant = $1 AND j.name = p.name AND j.place = p.place AND j.place <> ''
        LIMIT $3
    ) AS counted
) AS c CROSS JOIN LATERAL (
    SELECT min(s.place_kind) AS kind, min(s.place_since) AS oldest,
           count(*) FILTER (WHERE s.due <= (SELECT clock_us())) AS overdue
    FROM (
        SELECT j.place_kind, j.place_since, j.due FROM journeys_{slot} j
        WHERE j.tenant = $1 AND j.name = p.name AND j.place = p.place AND j.place <> ''
        ORDER BY j.started_at, j.saga_id
        LIMIT $4
    ) AS s
) AS f
ORDER BY c.waiting DESC, p.name, p.place
LIMIT 100

-- name: counts
SELECT metric, sum(n)::bigint AS n
FROM journey_levels_{slot}
WHERE tenant = $1 AND hour BETWEEN $3 AND $4 AND ($2 = '' OR name = $2)
GROUP BY metric

-- name: trend
-- $5: how wide a point is, microseconds.
SELECT ((hour - $3) / $5)::int AS point, metric, sum(n)::bigint AS n
FROM journey_levels_{slot}
WHERE tenant = $1 AND hour BETWEEN $3 AND $4 AND ($2 = '' OR name = $2)
GROUP BY 1, 2
ORDER BY 1

-- name: names
SELECT DISTINCT name FROM journey_levels_{slot} WHERE tenant = $1 ORDER BY name
