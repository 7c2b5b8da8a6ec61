-- Which versions take new sagas, and which processes have them.

-- name: active
-- Locks and reads (migration 0210). $1: alone.
SELECT name, version FROM active_v1($1)

-- name: lacking
-- Processes that were seen within $2 microseconds and have not got one of these ('name/version').
SELECT w.saga, c.instance
FROM unnest($1::text[]) AS w (saga)
JOIN definition_carriers c ON c.seen_at > clock_us() - $2 AND NOT w.saga = ANY (c.sagas)
ORDER BY w.saga, c.instance

-- name: switch
-- Only from the version that was replaced in the eyes of those who agreed, and to the shape that they saw.
INSERT INTO activations (name, version, replaces, how, saga_id, batch, activated_at)
SELECT d.name, d.version, $3, 'approved', $5, $6, $7
FROM definitions d
WHERE d.name = $1 AND d.version = $2 AND d.hash = $4
  AND $3 = coalesce((SELECT a.version FROM activations a WHERE a.name = $1 ORDER BY a.id DESC LIMIT 1), 0)

-- name: names
-- Names under approval.
SELECT DISTINCT name FROM activations

-- name: stored
-- Every stored version of these.
SELECT name, version FROM definitions WHERE name = ANY ($1::text[])

-- name: baseline
-- What counts from when a definition comes under approval; under the lock, once.
INSERT INTO activations (name, version, replaces, how, saga_id, batch, activated_at)
SELECT b.name, b.version, 0, 'baseline', '', nextval('batches'), clock_us()
FROM unnest($1::text[], $2::integer[]) AS b (name, version)
WHERE NOT EXISTS (SELECT FROM activations a WHERE a.name = b.name)

-- name: history
-- Every switch, newest first; of one definition, or ('') of all.
SELECT id, name, version, replaces, how, saga_id, batch, activated_at
FROM activations
WHERE $1 = '' OR name = $1
ORDER BY id DESC
LIMIT $2

-- name: brought
INSERT INTO definition_origins (name, version, build, deployed_by)
SELECT u.name, u.version, $3, $4 FROM unnest($1::text[], $2::integer[]) AS u (name, version)
WHERE NOT EXISTS (SELECT FROM definitions d WHERE d.name = u.name AND d.version = u.version)
ON CONFLICT DO NOTHING

-- name: origins
SELECT name, version, build, deployed_by FROM definition_origins WHERE name = $1

-- name: carry
INSERT INTO definition_carriers (instance, sagas, seen_at) VALUES ($1, $2, clock_us())
ON CONFLICT (instance) DO UPDATE SET sagas = excluded.sagas, seen_at = excluded.seen_at

-- name: carry_no_more
DELETE FROM definition_carriers WHERE instance = $1 OR seen_at < clock_us() - $2

-- name: carriers
SELECT instance, sagas FROM definition_carriers WHERE seen_at > clock_us() - $1 ORDER BY instance

-- name: newest_approved
-- The newest row of each of these, and the records that it names: what was asked for, how it ended. Not where it is the
-- only one and says what ran before approval; behind another row nobody but a stranger writes that.
SELECT n.name, n.version, n.replaces, r.body
FROM (
    SELECT DISTINCT ON (a.name) a.id, a.name, a.version, a.replaces, a.how, a.saga_id
    FROM activations a WHERE a.name = ANY ($1::text[]) ORDER BY a.name, a.id DESC
) AS n
LEFT JOIN records r ON r.saga_id = n.saga_id
WHERE n.how = 'approved' OR EXISTS (SELECT FROM activations e WHERE e.name = n.name AND e.id < n.id)
ORDER BY n.name, r.version
