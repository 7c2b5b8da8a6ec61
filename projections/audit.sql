-- Questions about the audit trail. Newest first; a filter that is null does not count. $5: nothing beyond this position, so
-- that what comes in while somebody reads on changes no page. The end of a span of time is where the list begins ($2, $3):
-- as a condition beside the row comparison, an index would be read from its own end all the way to there.
--
-- A record's bytes are looked up by its place in the global order: what is listed together was written together, so those
-- are neighbours in the index and in the table. By saga and version every line of a list would be a page of its own.
-- Places are computed behind OFFSET 0: row level security lets no computed value into the condition of an index.

-- name: search
-- Of everything, or of one business key: among its few rows the other filters are looked for.
SELECT a.*, r.body, r.hash
FROM (
    SELECT * FROM audit_{slot}
    WHERE tenant = $1 AND (recorded_at, position) < ($2, $3) AND position <= $5 AND recorded_at >= $6
      AND ($7::text IS NULL OR business_key = $7)
      AND ($8::text IS NULL OR actor = $8)
      AND ($9::text IS NULL OR customer = $9)
      AND ($10::text IS NULL OR outcome = $10)
      AND ($11::text IS NULL OR name = $11)
      AND ($12::text IS NULL OR type >= $12)
      AND ($13::text IS NULL OR type < $13)
    ORDER BY recorded_at DESC, position DESC
    LIMIT $4
) AS a
CROSS JOIN LATERAL (
    SELECT s.first_seq + (a.position - s.first_position) AS seq FROM feed_sealed s
    WHERE s.first_position <= a.position ORDER BY s.first_position DESC LIMIT 1
) AS f
CROSS JOIN LATERAL (SELECT saga_id, version, body, hash FROM records WHERE seq = f.seq OFFSET 0) AS r
WHERE r.saga_id = a.saga_id AND r.version = a.version
ORDER BY a.recorded_at DESC, a.position DESC

-- name: search_saga
-- Of one saga ($7): its records by their own key, each one's row by its place in the order.
SELECT a.*, r.body, r.hash
FROM (
    SELECT a.*
    FROM (
        SELECT s.first_position + (o.seq - s.first_seq) AS position
        FROM (SELECT seq, seq - (seq & 1048575) AS first_seq FROM records WHERE saga_id = $7 OFFSET 0) AS o
        JOIN feed_sealed s ON s.first_seq = o.first_seq
        OFFSET 0
    ) AS p
    CROSS JOIN LATERAL (SELECT * FROM audit_{slot} WHERE position = p.position OFFSET 0) AS a
    WHERE a.tenant = $1 AND (a.recorded_at, a.position) < ($2, $3) AND a.position <= $5 AND a.recorded_at >= $6
      AND a.saga_id = $7
      AND ($8::text IS NULL OR a.business_key = $8)
      AND ($9::text IS NULL OR a.actor = $9)
      AND ($10::text IS NULL OR a.customer = $10)
      AND ($11::text IS NULL OR a.outcome = $11)
      AND ($12::text IS NULL OR a.name = $12)
      AND ($13::text IS NULL OR a.type >= $13)
      AND ($14::text IS NULL OR a.type < $14)
    ORDER BY a.recorded_at DESC, a.position DESC
    LIMIT $4
) AS a
JOIN records r ON r.saga_id = a.saga_id AND r.version = a.version
ORDER BY a.recorded_at DESC, a.position DESC

-- name: search_kinds
-- Of some kinds (type, outcome, name of the saga: $7, $8, $9 side by side): the next ones of each come from one index
-- range, without their rows; those are read for what the page shows.
SELECT a.*, r.body, r.hash
FROM (
    SELECT p.recorded_at, p.position
    FROM unnest($7::text[], $8::text[], $9::text[]) AS k (type, outcome, name)
    CROSS JOIN LATERAL (
        SELECT c.recorded_at, c.position FROM audit_{slot} c
        WHERE c.tenant = $1 AND c.type = k.type AND c.outcome = k.outcome AND c.name = k.name
          AND (c.recorded_at, c.position) < ($2, $3) AND c.position <= $5 AND c.recorded_at >= $6
          AND ($10::text IS NULL OR c.actor = $10)
          AND ($11::text IS NULL OR c.customer = $11)
        ORDER BY c.recorded_at DESC, c.position DESC
        LIMIT $4
    ) AS p
    ORDER BY p.recorded_at DESC, p.position DESC
    LIMIT $4
) AS found
JOIN audit_{slot} a ON a.position = found.position
CROSS JOIN LATERAL (
    SELECT s.first_seq + (found.position - s.first_position) AS seq FROM feed_sealed s
    WHERE s.first_position <= found.position ORDER BY s.first_position DESC LIMIT 1
) AS f
CROSS JOIN LATERAL (SELECT saga_id, version, body, hash FROM records WHERE seq = f.seq OFFSET 0) AS r
WHERE r.saga_id = a.saga_id AND r.version = a.version
ORDER BY found.recorded_at DESC, found.position DESC

-- name: kinds
-- The kinds that there are with types between two words, by jumping from each to the next in the index.
WITH RECURSIVE found AS (
    (SELECT type, outcome, name FROM audit_{slot} WHERE tenant = $1 AND type >= $2 AND type < $3
     ORDER BY type, outcome, name LIMIT 1)
    UNION ALL
    SELECT n.* FROM found f CROSS JOIN LATERAL (
        SELECT a.type, a.outcome, a.name FROM audit_{slot} a
        WHERE a.tenant = $1 AND (a.type, a.outcome, a.name) > (f.type, f.outcome, f.name) AND a.type < $3
        ORDER BY a.type, a.outcome, a.name LIMIT 1
    ) AS n
)
SELECT type, outcome, name FROM found
WHERE ($4::text IS NULL OR outcome = $4) AND ($5::text IS NULL OR name = $5)

-- name: kinds_of_actor
-- The same, of what one actor did.
WITH RECURSIVE found AS (
    (SELECT type, outcome, name FROM audit_{slot} WHERE tenant = $1 AND actor = $6 AND type >= $2 AND type < $3
     ORDER BY type, outcome, name LIMIT 1)
    UNION ALL
    SELECT n.* FROM found f CROSS JOIN LATERAL (
        SELECT a.type, a.outcome, a.name FROM audit_{slot} a
        WHERE a.tenant = $1 AND a.actor = $6 AND (a.type, a.outcome, a.name) > (f.type, f.outcome, f.name) AND a.type < $3
        ORDER BY a.type, a.outcome, a.name LIMIT 1
    ) AS n
)
SELECT type, outcome, name FROM found
WHERE ($4::text IS NULL OR outcome = $4) AND ($5::text IS NULL OR name = $5)

-- name: kinds_of_customer
-- The same, of what was done for one customer.
WITH RECURSIVE found AS (
    (SELECT type, outcome, name FROM audit_{slot} WHERE tenant = $1 AND customer = $6 AND type >= $2 AND type < $3
     ORDER BY type, outcome, name LIMIT 1)
    UNION ALL
    SELECT n.* FROM found f CROSS JOIN LATERAL (
        SELECT a.type, a.outcome, a.name FROM audit_{slot} a
        WHERE a.tenant = $1 AND a.customer = $6 AND (a.type, a.outcome, a.name) > (f.type, f.outcome, f.name)
          AND a.type < $3
        ORDER BY a.type, a.outcome, a.name LIMIT 1
    ) AS n
)
SELECT type, outcome, name FROM found
WHERE ($4::text IS NULL OR outcome = $4) AND ($5::text IS NULL OR name = $5)

-- name: count
-- Counted up to a limit, so that a wide question costs no more than that.
SELECT count(*) AS n
FROM (
    SELECT FROM audit_{slot}
    WHERE tenant = $1 AND position <= $3 AND recorded_at >= $4 AND recorded_at < $5
      AND ($6::text IS NULL OR business_key = $6)
      AND ($7::text IS NULL OR actor = $7)
      AND ($8::text IS NULL OR customer = $8)
      AND ($9::text IS NULL OR outcome = $9)
      AND ($10::text IS NULL OR name = $10)
      AND ($11::text IS NULL OR type >= $11)
      AND ($12::text IS NULL OR type < $12)
    LIMIT $2
) AS counted

-- name: count_saga
-- The same of one saga.
SELECT count(*) AS n
FROM (
    SELECT FROM (
        SELECT s.first_position + (o.seq - s.first_seq) AS position
        FROM (SELECT seq, seq - (seq & 1048575) AS first_seq FROM records WHERE saga_id = $6 OFFSET 0) AS o
        JOIN feed_sealed s ON s.first_seq = o.first_seq
        OFFSET 0
    ) AS p
    CROSS JOIN LATERAL (SELECT * FROM audit_{slot} WHERE position = p.position OFFSET 0) AS a
    WHERE a.tenant = $1 AND a.position <= $3 AND a.recorded_at >= $4 AND a.recorded_at < $5
      AND a.saga_id = $6
      AND ($7::text IS NULL OR a.business_key = $7)
      AND ($8::text IS NULL OR a.actor = $8)
      AND ($9::text IS NULL OR a.customer = $9)
      AND ($10::text IS NULL OR a.outcome = $10)
      AND ($11::text IS NULL OR a.name = $11)
      AND ($12::text IS NULL OR a.type >= $12)
      AND ($13::text IS NULL OR a.type < $13)
    LIMIT $2
) AS counted

-- name: count_kinds
-- The same of some kinds: their ranges, one after the other, until the limit.
SELECT count(*) AS n
FROM (
    SELECT FROM unnest($6::text[], $7::text[], $8::text[]) AS k (type, outcome, name)
    CROSS JOIN LATERAL (
        SELECT FROM audit_{slot} c
        WHERE c.tenant = $1 AND c.type = k.type AND c.outcome = k.outcome AND c.name = k.name
          AND c.position <= $3 AND c.recorded_at >= $4 AND c.recorded_at < $5
          AND ($9::text IS NULL OR c.actor = $9)
          AND ($10::text IS NULL OR c.customer = $10)
        LIMIT $2
    ) AS p
    LIMIT $2
) AS counted

-- name: held
-- How many positions of a range have their row.
SELECT count(*) AS n FROM audit_{slot} WHERE position > $1 AND position <= $2
