-- name: add
INSERT INTO approvals_{slot} (
    position, valid_from, valid_to, opened_at, due, expires, version, level, round, votes, votes_needed, reach, tenant, saga_id,
    activity, name, business_key, customer, state, change, actor, outcome, claimed_by, delegated_to, candidates, excluded)
SELECT u.position, u.valid_from, u.valid_to, u.opened_at, u.due, u.expires, u.version, u.level, u.round, u.votes,
       u.votes_needed, u.reach, u.tenant, u.saga_id, u.activity, u.name, u.business_key, u.customer, u.state, u.change, u.actor,
       u.outcome, u.claimed_by, u.delegated_to,
       array(SELECT jsonb_array_elements_text(u.candidates::jsonb)), array(SELECT jsonb_array_elements_text(u.excluded::jsonb))
FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::int[], $8::int[], $9::int[],
            $10::int[], $11::int[], $12::smallint[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[],
            $18::text[], $19::text[], $20::text[], $21::text[], $22::text[], $23::text[], $24::text[], $25::text[], $26::text[])
     AS u (position, valid_from, valid_to, opened_at, due, expires, version, level, round, votes, votes_needed, reach, tenant,
           saga_id, activity, name, business_key, customer, state, change, actor, outcome, claimed_by, delegated_to, candidates,
           excluded)

-- name: end
-- What stood until now. $4: until when, $5: bit length of how long.
UPDATE approvals_{slot} a SET valid_to = e.valid_to, reach = e.reach
FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::smallint[]) AS e (saga_id, activity, position, valid_to, reach)
WHERE a.saga_id = e.saga_id AND a.activity = e.activity AND a.position = e.position

-- name: add_votes
INSERT INTO approval_votes_{slot} (
    position, voted_at, version, round, decided, counted, tenant, person, saga_id, activity, name, business_key, customer,
    outcome, reason, on_behalf_of, authentication, subject_hash, roles)
SELECT u.position, u.voted_at, u.version, u.round, u.decided, u.counted, u.tenant, u.person, u.saga_id, u.activity, u.name,
       u.business_key, u.customer, u.outcome, u.reason, u.on_behalf_of, u.authentication, u.subject_hash,
       array(SELECT jsonb_array_elements_text(u.roles::jsonb))
FROM unnest($1::bigint[], $2::bigint[], $3::int[], $4::int[], $5::bool[], $6::bool[], $7::text[], $8::text[], $9::text[],
            $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::text[], $17::text[], $18::text[],
            $19::text[])
     AS u (position, voted_at, version, round, decided, counted, tenant, person, saga_id, activity, name, business_key, customer,
           outcome, reason, on_behalf_of, authentication, subject_hash, roles)

-- name: void_votes
-- A changed subject makes the votes of earlier rounds void.
UPDATE approval_votes_{slot} v SET counted = false
FROM unnest($1::text[], $2::text[], $3::int[]) AS e (saga_id, activity, round)
WHERE v.saga_id = e.saga_id AND v.activity = e.activity AND v.round < e.round AND v.counted

-- name: deciding_votes
UPDATE approval_votes_{slot} v SET decided = true WHERE v.position = ANY ($1::bigint[])

-- name: standing
-- The state in which tasks stand, of sagas whose tasks are not in memory: the newest row of each open one.
SELECT position, valid_from, saga_id, activity
FROM approvals_{slot}
WHERE saga_id = ANY ($1::text[]) AND valid_to = 9223372036854775807 AND state = 'open'

-- name: last_votes
-- The newest vote on each of these tasks.
SELECT saga_id, activity, max(position) AS position FROM approval_votes_{slot} WHERE saga_id = ANY ($1::text[]) GROUP BY 1, 2

-- name: now
-- What is pending, due first; a filter that is null does not count.
SELECT * FROM approvals_{slot}
WHERE tenant = $1 AND state = 'open' AND valid_to = 9223372036854775807 AND (due, saga_id, activity) > ($2, $3, $4)
  AND ($6::text[] IS NULL OR candidates && $6 OR claimed_by = ANY ($6) OR delegated_to = ANY ($6))
  AND ($7::text IS NULL OR name = $7)
ORDER BY due, saga_id, activity
LIMIT $5

-- name: then
-- What was pending at $8. What still stands comes in the order of the list; of what has ended, for each reach ($9), what began
-- after an instant ($10: 2^reach microseconds earlier) and had not ended then. Each of those ranges holds at most twice as many
-- rows as are wanted. OFFSET 0 keeps the inner query as it is: one range of the index for each reach.
SELECT f.*
FROM (
    (SELECT * FROM approvals_{slot}
     WHERE tenant = $1 AND state = 'open' AND valid_to = 9223372036854775807 AND valid_from <= $8
       AND (due, saga_id, activity) > ($2, $3, $4)
       AND ($6::text[] IS NULL OR candidates && $6 OR claimed_by = ANY ($6) OR delegated_to = ANY ($6))
       AND ($7::text IS NULL OR name = $7)
     ORDER BY due, saga_id, activity
     LIMIT $5)
    UNION ALL
    (SELECT ended.*
     FROM unnest($9::smallint[], $10::bigint[]) AS r (reach, after)
     CROSS JOIN LATERAL (
         SELECT * FROM approvals_{slot} a
         WHERE a.tenant = $1 AND a.state = 'open' AND a.reach = r.reach AND a.valid_from <= $8 AND a.valid_from > r.after
           AND a.valid_to > $8
         OFFSET 0
     ) AS ended
     WHERE r.reach < 63)
) AS f
WHERE (f.due, f.saga_id, f.activity) > ($2, $3, $4)
  AND ($6::text[] IS NULL OR f.candidates && $6 OR f.claimed_by = ANY ($6) OR f.delegated_to = ANY ($6))
  AND ($7::text IS NULL OR f.name = $7)
ORDER BY f.due, f.saga_id, f.activity
LIMIT $5

-- name: history
SELECT * FROM approvals_{slot} WHERE tenant = $1 AND saga_id = $2 AND activity = $3 ORDER BY position LIMIT $4

-- name: decided_by
SELECT * FROM approval_votes_{slot}
WHERE tenant = $1 AND person = $2 AND (voted_at, position) < ($3, $4) AND voted_at >= $6
ORDER BY voted_at DESC, position DESC
LIMIT $5

-- name: overdue
-- Open tasks whose time is over: they count as breaches before anybody closes them. Nothing is overdue before it is due, so
-- the index gives those few instead of all that are open.
SELECT count(*) AS overdue
FROM approvals_{slot}
WHERE tenant = $1 AND state = 'open' AND valid_to = 9223372036854775807 AND ($2 = '' OR name = $2)
  AND due <= $3::bigint AND expires <= $3::bigint
