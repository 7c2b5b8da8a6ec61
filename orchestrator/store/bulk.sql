-- Who owns a cause, and acts on many sagas. $1 is the tenant, except in what the worker asks for all of them.

-- name: owners
SELECT DISTINCT ON (cause) cause, number, act, by, before, reason, at
FROM cause_notes WHERE tenant = $1 AND cause = ANY ($2::text[])
ORDER BY cause, number DESC

-- name: cause_notes
SELECT cause, number, act, by, before, reason, at FROM cause_notes
WHERE tenant = $1 AND cause = $2 ORDER BY number DESC LIMIT 50

-- name: note_cause
-- The next number after the one that was seen: of two who act at once, one gets no row.
INSERT INTO cause_notes (number, tenant, cause, act, by, before, reason) VALUES ($3 + 1, $1, $2, $4, $5, $6, $7)
ON CONFLICT DO NOTHING
RETURNING number

-- name: draft
INSERT INTO bulk_acts (id, tenant, act, state, cause, title, made_by, needs_two)
VALUES ($2, $1, $3, 'draft', $4, $5, $6, $7)

-- name: items
INSERT INTO bulk_items (number, version, tenant, bulk, saga_id, business_key, place, state, detail)
SELECT number, version, $1, $2, saga_id, business_key, place, state, detail
FROM unnest($3::int[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
     AS i (number, version, saga_id, business_key, place, state, detail)

-- name: forget_drafts
WITH old AS (
    DELETE FROM bulk_acts WHERE state = 'draft' AND made_at < (SELECT clock_us()) - $1 RETURNING tenant, id
)
DELETE FROM bulk_items i USING old WHERE i.tenant = old.tenant AND i.bulk = old.id

-- name: act
SELECT id, tenant, act, state, cause, title, made_by, confirmed_by, reason, needs_two, made_at, changed_at
FROM bulk_acts WHERE tenant = $1 AND id = $2

-- name: acts
SELECT id, tenant, act, state, cause, title, made_by, confirmed_by, reason, needs_two, made_at, changed_at
FROM bulk_acts WHERE tenant = $1 AND state <> 'draft' ORDER BY made_at DESC, id LIMIT $2

-- name: counts
SELECT bulk, state, verdict, count(*) AS items FROM bulk_items WHERE tenant = $1 AND bulk = ANY ($2::text[])
GROUP BY bulk, state, verdict

-- name: notes
SELECT what, by, reason, at FROM bulk_notes WHERE tenant = $1 AND bulk = $2 ORDER BY number

-- name: note
INSERT INTO bulk_notes (tenant, bulk, what, by, reason) VALUES ($1, $2, $3, $4, $5)

-- name: move
-- From a state that was seen to another one; no row where somebody was quicker. $6: who confirms, $7: the reason.
UPDATE bulk_acts
SET state = $4, changed_at = clock_us(), leased_until = 0,
    confirmed_by = CASE WHEN $6 = '' THEN confirmed_by ELSE $6 END,
    reason = CASE WHEN $7 = '' THEN reason ELSE $7 END
WHERE tenant = $1 AND id = $2 AND state = ANY ($3::text[]) AND ($5 = '' OR made_by <> $5)
RETURNING id

-- name: page_of_items
SELECT number, saga_id, business_key, place, version, state, verdict, detail, acted_at FROM bulk_items
WHERE tenant = $1 AND bulk = $2 AND number > $3 AND ($5::text IS NULL OR state = $5) AND ($6::text IS NULL OR verdict = $6)
ORDER BY number LIMIT $4

-- name: sagas_of
SELECT DISTINCT saga_id FROM bulk_items WHERE tenant = $1 AND bulk = $2 ORDER BY saga_id

-- name: lease
-- The work of one round, for whichever process comes first. People who were barred since do not act any more.
UPDATE bulk_acts b SET leased_until = (SELECT clock_us()) + $1
WHERE (b.tenant, b.id) = (
    SELECT w.tenant, w.id FROM bulk_acts w
    WHERE w.state IN ('running', 'paused', 'stopped', 'done') AND w.leased_until < (SELECT clock_us())
      AND (w.state = 'running' OR w.changed_at > (SELECT clock_us()) - $2)
      AND EXISTS (SELECT FROM bulk_items i WHERE i.tenant = w.tenant AND i.bulk = w.id AND i.next_at <= (SELECT clock_us())
                  AND ((w.state = 'running' AND i.state IN ('open', 'taking')) OR i.verdict = 'waiting'))
    ORDER BY w.leased_until, w.made_at LIMIT 1
    FOR UPDATE SKIP LOCKED)
RETURNING b.id, b.tenant, b.act, b.state, b.cause, b.title, b.made_by, b.confirmed_by, b.reason, b.needs_two, b.made_at,
          b.changed_at,
          EXISTS (SELECT FROM barred_people p WHERE p.tenant = b.tenant AND p.person IN (b.made_by, b.confirmed_by)) AS barred

-- name: free
UPDATE bulk_acts SET leased_until = 0 WHERE tenant = $1 AND id = $2 AND leased_until <> 0

-- name: due_items
SELECT number, saga_id, business_key, place, version, state, verdict, detail, acted_at FROM bulk_items
WHERE tenant = $1 AND bulk = $2 AND next_at <= (SELECT clock_us())
  AND (($4 AND state IN ('open', 'taking')) OR verdict = 'waiting')
ORDER BY verdict, number LIMIT $3

-- name: settle
UPDATE bulk_items
SET state = $4, verdict = $5, detail = $6, next_at = (SELECT clock_us()) + $7,
    acted_at = CASE WHEN $4 = 'acted' THEN coalesce(acted_at, (SELECT clock_us())) ELSE acted_at END
WHERE tenant = $1 AND bulk = $2 AND number = $3

-- name: is_over
SELECT NOT EXISTS (SELECT FROM bulk_items WHERE tenant = $1 AND bulk = $2 AND state IN ('open', 'taking')) AS over
