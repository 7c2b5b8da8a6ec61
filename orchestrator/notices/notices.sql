-- Notices: planned from records (read, write and position in one transaction), claimed, sent, marked.

-- --- planning --------------------------------------------------------------------------------------------------------

-- name: position
SELECT position FROM notice_position WHERE reader = $1

-- name: begin_here
-- The first start: nobody wants to hear of what happened before notices were switched on.
INSERT INTO notice_position (reader, position)
SELECT $1, coalesce((SELECT first_position + last_seq - first_seq FROM feed_sealed ORDER BY first_position DESC LIMIT 1), 0)
ON CONFLICT (reader) DO NOTHING

-- name: move_on
-- Of several readers who read the same records one moves the position; the others change nothing and read again.
UPDATE notice_position SET position = $3 WHERE reader = $1 AND position = $2

-- name: sagas_beside
SELECT h.saga_id, h.name, h.business_key, r.body AS first
FROM saga_heads h LEFT JOIN records r ON r.saga_id = h.saga_id AND r.version = 1
WHERE h.saga_id = ANY ($1::text[])

-- name: tasks_beside
SELECT t.saga_id, t.activity, t.closed = '' AS is_open, t.due, t.data
FROM unnest($1::text[], $2::text[]) AS wanted (saga_id, activity)
JOIN tasks t USING (saga_id, activity)

-- name: records_before
SELECT saga_id, version, body, hash FROM records WHERE saga_id = $1 AND version < $2 ORDER BY version

-- name: contacts_of
SELECT c.tenant, c.who, c.channel, c.address, c.language, c.zone, c.delivery, c.digest_at, c.quiet_from, c.quiet_to
FROM unnest($1::text[], $2::text[]) AS wanted (tenant, who)
JOIN notice_contacts c USING (tenant, who)

-- name: known_of
-- Who has signed in, has shown a token or is a local user, and may still come in.
SELECT k.tenant, k.person
FROM unnest($1::text[], $2::text[]) AS wanted (tenant, person)
JOIN known_people k USING (tenant, person)
WHERE k.capacities <> '{}' AND NOT EXISTS (SELECT FROM barred_people b WHERE b.tenant = k.tenant AND b.person = k.person)

-- name: substitutes_of
SELECT s.tenant, s.person, s.substitute
FROM unnest($1::text[], $2::text[]) AS wanted (tenant, person)
JOIN substitutions s USING (tenant, person)
WHERE s.since <= (SELECT clock_us()) AND s.until > (SELECT clock_us())
  AND NOT EXISTS (SELECT FROM substitutions_ended e WHERE e.id = s.id)
ORDER BY s.id

-- name: plan
-- A record tells a recipient once per channel: planned again after a crash, it is there already.
INSERT INTO notice_outbox (planned_at, due, task_due, version, tenant, saga_id, activity, kind, who, channel, digest, address,
                           language, zone, facts)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[], $5::text[], $6::text[], $7::text[], $8::text[],
                     $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::bytea[])
ON CONFLICT (saga_id, version, who, channel) DO NOTHING

-- name: now
SELECT clock_us() AS now

-- --- sending ---------------------------------------------------------------------------------------------------------

-- name: claim
-- Takes what is due, and all of a digest of which one is. One instant for the whole statement: rows that were claimed
-- together come free together, so that a digest that was cut off is claimed again as it was.
WITH clock AS MATERIALIZED (
    SELECT clock_us() AS now
), free AS MATERIALIZED (
    SELECT o.id, o.digest
    FROM notice_outbox o
    WHERE o.state = 'waiting' AND o.due <= (SELECT now FROM clock) AND o.claimed_until <= (SELECT now FROM clock)
      AND o.channel = ANY ($3::text[])
    ORDER BY o.due, o.id
    LIMIT $1
    FOR UPDATE SKIP LOCKED
), grown AS MATERIALIZED (
    SELECT o.id
    FROM notice_outbox o
    WHERE o.state = 'waiting' AND o.digest <> '' AND o.claimed_until <= (SELECT now FROM clock)
      AND o.digest = ANY (SELECT DISTINCT digest FROM free WHERE digest <> '')
    ORDER BY o.id
    LIMIT $4
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE notice_outbox o SET claimed_until = (SELECT now FROM clock) + $2, attempts = attempts + 1
    WHERE o.id IN (SELECT id FROM free WHERE digest = '' UNION ALL SELECT id FROM grown)
    RETURNING o.*
)
SELECT n.id, n.tenant, n.saga_id, n.version, n.activity, n.kind, n.who, n.channel, n.address, n.planned_at, n.language,
       n.zone, n.facts, n.attempts, n.digest,
       CASE WHEN t.closed = '' AND n.task_due > 0 THEN t.due ELSE n.task_due END AS due,
       coalesce(t.closed, 'gone') AS closed,
       coalesce(split_part(n.who, ':', 1) = 'person' AND substr(n.who, 8) = ANY (c.barred), false) AS barred,
       (SELECT now FROM clock) AS now
FROM taken n
LEFT JOIN tasks t ON t.saga_id = n.saga_id AND t.activity = n.activity
LEFT JOIN task_candidates c ON c.saga_id = n.saga_id AND c.activity = n.activity AND c.candidate = n.who
ORDER BY n.due, n.id

-- name: settle
-- What became of rows: `attempts` fences, so that who lost a claim to another sender changes nothing of what that one did.
UPDATE notice_outbox o
SET state = s.state, reason = s.reason, closed_at = CASE WHEN s.state = 'waiting' THEN NULL ELSE clock_us() END,
    claimed_until = 0,
    due = CASE WHEN s.state = 'waiting' THEN clock_us() + s.delay ELSE o.due END,
    attempts = o.attempts - s.given_back
FROM unnest($1::bigint[], $2::int[], $3::text[], $4::text[], $5::bigint[], $6::int[])
         AS s (id, attempts, state, reason, delay, given_back)
WHERE o.id = s.id AND o.attempts = s.attempts AND o.state = 'waiting'

-- name: trim
-- The subquery is there to read the clock once: it is no index condition otherwise.
DELETE FROM notice_outbox WHERE id IN (
    SELECT id FROM notice_outbox WHERE closed_at < (SELECT clock_us()) - $1 ORDER BY closed_at LIMIT $2 FOR UPDATE SKIP LOCKED)

-- --- for people ------------------------------------------------------------------------------------------------------

-- name: as_tenant
SELECT set_config('orchestrator.tenant', $1, true)

-- name: list
SELECT id, planned_at, due, closed_at, task_due, attempts, state, saga_id, activity, kind, who, channel, address, reason, facts
FROM notice_outbox
WHERE tenant = $1 AND id < $2
  AND ($4::text IS NULL OR state = $4)
  AND ($5::text IS NULL OR who = $5)
  AND ($6::text IS NULL OR saga_id = $6)
ORDER BY id DESC
LIMIT $3

-- name: show
SELECT id, planned_at, due, closed_at, task_due, attempts, state, saga_id, activity, kind, who, channel, address, reason, facts
FROM notice_outbox
WHERE tenant = $1 AND id = $2

-- name: again
UPDATE notice_outbox SET state = 'waiting', due = clock_us(), attempts = 0, claimed_until = 0, closed_at = NULL,
       planned_at = clock_us(), reason = 'sent again by ' || $3
WHERE tenant = $1 AND id = $2 AND state = 'failed'

-- name: contacts
SELECT who, channel, address, language, zone, delivery, digest_at, quiet_from, quiet_to, updated_at, updated_by
FROM notice_contacts
WHERE tenant = $1 AND (who, channel) > ($2, $3) AND ($5::text IS NULL OR who = $5)
ORDER BY who, channel
LIMIT $4

-- name: put_contact
INSERT INTO notice_contacts (quiet_from, quiet_to, digest_at, updated_at, tenant, who, channel, address, language, zone,
                             delivery, updated_by)
VALUES ($1, $2, $3, clock_us(), $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (tenant, who, channel) DO UPDATE
SET quiet_from = excluded.quiet_from, quiet_to = excluded.quiet_to, digest_at = excluded.digest_at,
    updated_at = excluded.updated_at, address = excluded.address, language = excluded.language, zone = excluded.zone,
    delivery = excluded.delivery, updated_by = excluded.updated_by

-- name: drop_contact
DELETE FROM notice_contacts WHERE tenant = $1 AND who = $2 AND channel = $3
