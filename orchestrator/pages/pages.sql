-- What pages keep for people, and the few questions that only the inbox asks.

-- name: profile
SELECT data FROM page_profiles WHERE tenant = $1 AND person = $2

-- name: save_profile
INSERT INTO page_profiles AS p (tenant, person, changed_at, data) VALUES ($1, $2, clock_us(), $3)
ON CONFLICT (tenant, person) DO UPDATE SET changed_at = excluded.changed_at, data = excluded.data

-- name: views
-- One's own and, where others share theirs, those; in the order of names, for menus.
SELECT id, owner, name, path, query, shared FROM page_views
WHERE tenant = $1 AND path = $3 AND (owner = $2 OR shared)
ORDER BY lower(name), id
LIMIT $4

-- name: view
SELECT id, owner, name, path, query, shared FROM page_views WHERE tenant = $1 AND id = $3 AND (owner = $2 OR shared)

-- name: save_view
-- No row: this person has $7 views already.
INSERT INTO page_views (made_at, shared, id, tenant, owner, name, path, query)
SELECT clock_us(), $8, $3, $1, $2, $4, $5, $6
WHERE (SELECT count(*) FROM page_views WHERE tenant = $1 AND owner = $2) < $7
RETURNING id

-- name: drop_view
DELETE FROM page_views WHERE tenant = $1 AND owner = $2 AND id = $3

-- name: count_for
-- How many open tasks these candidates may decide, counted up to $4: each candidate's first ones are one index range.
SELECT count(*) AS tasks FROM (
    SELECT DISTINCT found.saga_id, found.activity
    FROM unnest($3::text[]) AS wanted (candidate)
    CROSS JOIN LATERAL (
        SELECT c.saga_id, c.activity FROM task_candidates c
        WHERE c.tenant = $1 AND c.candidate = wanted.candidate AND NOT $2 = ANY (c.barred)
        ORDER BY c.due, c.saga_id, c.activity
        LIMIT $4
    ) AS found
    LIMIT $4
) AS counted

-- name: waiting_for_others
-- Open tasks that this person may not decide because they asked for them or have voted: others have to. Due first.
SELECT saga_id, activity, due FROM task_candidates
WHERE tenant = $1 AND candidate = 'barred:' || $2::text AND (due, saga_id, activity) > ($3, $4, $5)
ORDER BY due, saga_id, activity
LIMIT $6
