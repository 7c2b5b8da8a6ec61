-- Drafts and substitutions (orchestrator/store/desk.py).

-- name: write_as
SELECT set_config('orchestrator.tenant', $1, true)

-- name: save_draft
-- Only for a task that is open: a draft of what is decided already would only mislead.
INSERT INTO task_drafts AS d (saved_at, tenant, saga_id, activity, person, subject_hash, form)
SELECT (SELECT clock_us()), t.tenant, t.saga_id, t.activity, $4, $5, $6
FROM tasks t WHERE t.tenant = $1 AND t.saga_id = $2 AND t.activity = $3 AND t.closed = ''
ON CONFLICT (saga_id, activity, person) DO UPDATE
   SET saved_at = excluded.saved_at, subject_hash = excluded.subject_hash, form = excluded.form
RETURNING saved_at

-- name: draft
SELECT subject_hash, form, saved_at FROM task_drafts
WHERE tenant = $1 AND saga_id = $2 AND activity = $3 AND person = $4

-- name: drop_draft
DELETE FROM task_drafts WHERE tenant = $1 AND saga_id = $2 AND activity = $3 AND person = $4

-- name: lock_person
-- Two requests of one person take turns; a statement of its own, so that the next one sees what the other has written.
SELECT pg_advisory_xact_lock(hashtextextended('substitution/' || $1::text || '/' || $2::text, 0))

-- name: substitute
-- One at a time: what overlaps is refused by giving no row.
INSERT INTO substitutions (tenant, person, substitute, roles, since, until, reason, made_at, made_by)
SELECT $1, $2, $3, $4::text[], $5, $6, $7, clock_us(), $8
WHERE NOT EXISTS (
    SELECT FROM substitutions s
    WHERE s.tenant = $1 AND s.person = $2 AND s.since < $6 AND s.until > $5
      AND NOT EXISTS (SELECT FROM substitutions_ended e WHERE e.id = s.id))
RETURNING id, person, substitute, since, until, reason, made_at, made_by

-- name: end_substitution
INSERT INTO substitutions_ended (id, tenant, ended_at, ended_by)
SELECT s.id, s.tenant, clock_us(), $3 FROM substitutions s
WHERE s.tenant = $1 AND s.id = $2 AND s.until > clock_us()
ON CONFLICT (id) DO NOTHING
RETURNING id

-- name: substitutions
-- Of a person, or where they stand in, newest first; of everybody where no person is named.
SELECT s.id, s.person, s.substitute, s.since, s.until, s.reason, s.made_at, s.made_by, e.ended_at, e.ended_by
FROM substitutions s LEFT JOIN substitutions_ended e ON e.id = s.id
WHERE s.tenant = $1 AND ($2::text IS NULL OR s.person = $2 OR s.substitute = $2)
ORDER BY s.id DESC
LIMIT $3

-- name: lenders
-- What people hold who lent a right on a task, as it was last known. `out`: they may not come in, or not decide, any more.
SELECT p.person, k.roles,
       EXISTS (SELECT FROM barred_people b WHERE b.tenant = $1 AND b.person = p.person)
       OR coalesce(NOT 'approver' = ANY (k.capacities), false) AS out
FROM unnest($2::text[]) AS p (person) LEFT JOIN known_people k ON k.tenant = $1 AND k.person = p.person

-- name: stands_in
-- Not for somebody who may not come in or not decide any more: they lend nothing. Roles that were lost since are gone.
SELECT s.id, s.person, s.since, s.until,
       ARRAY (SELECT role FROM unnest(s.roles) AS role WHERE k.person IS NULL OR role = ANY (k.roles)) AS roles
FROM substitutions s LEFT JOIN known_people k USING (tenant, person)
WHERE coalesce('approver' = ANY (k.capacities), true) AND s.tenant = $1 AND s.substitute = $2 AND s.since <= $3 AND s.until > $3
  AND NOT EXISTS (SELECT FROM substitutions_ended e WHERE e.id = s.id)
  AND NOT EXISTS (SELECT FROM barred_people b WHERE b.tenant = s.tenant AND b.person = s.person)
ORDER BY s.id
LIMIT 100
