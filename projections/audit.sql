-- Questions about the audit trail. Newest first; a filter that is null does not count. $5: nothing beyond this position, so
-- that what comes in while somebody reads on changes no page. The end of a span of time is where the list begins ($2, $3):
-- as a condition beside the row comparison, an index would be read from its own end all the way to there.

-- name: search
SELECT a.*, r.body, r.hash
FROM (
    SELECT * FROM audit_{slot}
    WHERE tenant = $1 AND (recorded_at, position) < ($2, $3) AND position <= $5 AND recorded_at >= $6
      AND ($7::text IS NULL OR saga_id = $7)
      AND ($8::text IS NULL OR business_key = $8)
      AND ($9::text IS NULL OR actor = $9)
      AND ($10::text IS NULL OR customer = $10)
      AND ($11::text IS NULL OR outcome = $11)
      AND ($12::text IS NULL OR name = $12)
      AND ($13::text IS NULL OR type = $13)
    ORDER BY recorded_at DESC, position DESC
    LIMIT $4
) AS a
JOIN records r ON r.saga_id = a.saga_id AND r.version = a.version
ORDER BY a.recorded_at DESC, a.position DESC

-- name: search_types
-- The same for several types: the next ones of each come from one index range.
SELECT a.*, r.body, r.hash
FROM (
    SELECT found.*
    FROM unnest($13::text[]) AS wanted (type)
    CROSS JOIN LATERAL (
        SELECT * FROM audit_{slot} c
        WHERE c.tenant = $1 AND c.type = wanted.type AND (c.recorded_at, c.position) < ($2, $3) AND c.position <= $5
          AND c.recorded_at >= $6
          AND ($7::text IS NULL OR c.saga_id = $7)
          AND ($8::text IS NULL OR c.business_key = $8)
          AND ($9::text IS NULL OR c.actor = $9)
          AND ($10::text IS NULL OR c.customer = $10)
          AND ($11::text IS NULL OR c.outcome = $11)
          AND ($12::text IS NULL OR c.name = $12)
        ORDER BY c.recorded_at DESC, c.position DESC
        LIMIT $4
    ) AS found
    ORDER BY found.recorded_at DESC, found.position DESC
    LIMIT $4
) AS a
JOIN records r ON r.saga_id = a.saga_id AND r.version = a.version
ORDER BY a.recorded_at DESC, a.position DESC

-- name: types
-- The types that there are between two words, by jumping from each to the next in the index.
WITH RECURSIVE found AS (
    (SELECT type FROM audit_{slot} WHERE tenant = $1 AND type >= $2 AND type < $3 ORDER BY type LIMIT 1)
    UNION ALL
    SELECT (SELECT a.type FROM audit_{slot} a WHERE a.tenant = $1 AND a.type > f.type AND a.type < $3 ORDER BY a.type LIMIT 1)
    FROM found f WHERE f.type IS NOT NULL
)
SELECT type FROM found WHERE type IS NOT NULL

-- name: count
-- Counted up to a limit, so that a wide question costs no more than that.
SELECT count(*) AS n
FROM (
    SELECT FROM audit_{slot}
    WHERE tenant = $1 AND position <= $3 AND recorded_at >= $4 AND recorded_at < $5
      AND ($6::text IS NULL OR saga_id = $6)
      AND ($7::text IS NULL OR business_key = $7)
      AND ($8::text IS NULL OR actor = $8)
      AND ($9::text IS NULL OR customer = $9)
      AND ($10::text IS NULL OR outcome = $10)
      AND ($11::text IS NULL OR name = $11)
      AND ($12::text[] IS NULL OR type = ANY ($12))
    LIMIT $2
) AS counted

-- name: held
-- How many positions of a range have their row.
SELECT count(*) AS n FROM audit_{slot} WHERE position > $1 AND position <= $2
