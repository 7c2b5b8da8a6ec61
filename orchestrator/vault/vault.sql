-- Keys of subjects, and which sagas may hold something sealed under them.

-- name: subjects
-- The keys of these subjects, made where there are none, and noted as those of their sagas. An erasure that is under way
-- is waited for, and then a new key is made.
WITH k AS (
    INSERT INTO vault_keys AS k (key_id, tenant, subject, wrapped, wrapped_by)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[], $4::bytea[], $5::text[])
    ON CONFLICT (tenant, subject) DO UPDATE SET used_at = clock_timestamp()
    RETURNING k.tenant, k.subject, k.key_id, k.wrapped, k.wrapped_by
), s AS (
    INSERT INTO vault_sagas (key_id, saga_id)
    SELECT k.key_id, u.saga_id
    FROM unnest($6::text[], $7::bytea[], $8::text[]) AS u (tenant, subject, saga_id)
    JOIN k ON k.tenant = u.tenant AND k.subject = u.subject
    ON CONFLICT DO NOTHING
)
SELECT tenant, subject, key_id, wrapped, wrapped_by FROM k

-- name: looked_at
-- Some keys that none of these wraps, the youngest ones, and the one by which a database knows its key file: whether a
-- key file opens them is seen before it is used.
(SELECT key_id, tenant, wrapped, wrapped_by FROM vault_keys
 WHERE wrapped IS NOT NULL AND wrapped_by <> ALL ($1::text[]) LIMIT $2)
UNION
(SELECT key_id, tenant, wrapped, wrapped_by FROM vault_keys WHERE wrapped IS NOT NULL ORDER BY made_at DESC LIMIT $2)
UNION
SELECT key_id, tenant, wrapped, wrapped_by FROM vault_keys WHERE key_id = $3

-- name: walk
-- All keys that live, some at a time.
SELECT key_id, tenant, wrapped, wrapped_by FROM vault_keys
WHERE wrapped IS NOT NULL AND key_id > $1 ORDER BY key_id LIMIT $2

-- name: mark
-- The first key file that this database sees is its own from then on.
INSERT INTO vault_keys (key_id, tenant, subject, wrapped, wrapped_by) VALUES ($1, '', $2, $3, $4)
ON CONFLICT DO NOTHING

-- name: marked
SELECT key_id, tenant, subject, wrapped, wrapped_by FROM vault_keys WHERE key_id = $1

-- name: known
-- The key of a subject, where there is one.
SELECT key_id FROM vault_keys WHERE tenant = $1 AND subject = ANY ($2::bytea[])

-- name: sagas_seen
-- Sagas that live under a key which they were given.
INSERT INTO vault_sagas (key_id, saga_id)
SELECT u.key_id, u.saga_id FROM unnest($1::text[], $2::text[]) AS u (key_id, saga_id)
JOIN vault_keys k USING (key_id)
ON CONFLICT DO NOTHING

-- name: keys
-- Keys by their ids.
SELECT key_id, tenant, wrapped, wrapped_by, request, erased_at
FROM vault_keys
WHERE key_id = ANY ($1::text[])

-- name: of_saga
-- Keys under which something of a saga may be sealed.
SELECT key_id FROM vault_sagas WHERE saga_id = $1 ORDER BY key_id

-- name: sagas_of
-- The sagas of some keys: id, name, business key, and whether they have ended for good: whoever called one, and runs, may
-- still undo it. Without name: none of that id is there.
SELECT s.saga_id, coalesce(h.name, '') AS name, coalesce(h.business_key, '') AS business_key,
       coalesce(h.ended, false) AND NOT EXISTS (
           WITH RECURSIVE callers AS (
               SELECT c.saga_id, c.parent, c.ended FROM saga_heads c WHERE h.parent <> '' AND c.saga_id = h.parent
               UNION
               SELECT c.saga_id, c.parent, c.ended FROM callers b JOIN saga_heads c ON c.saga_id = b.parent
               WHERE b.parent <> ''
           )
           SELECT FROM callers WHERE NOT ended
       ) AS ended,
       coalesce(h.version, 0) AS version,
       s.seen_at > clock_timestamp() - make_interval(secs => $2) AS fresh
FROM vault_sagas s
LEFT JOIN saga_heads h ON h.saga_id = s.saga_id AND h.version > 0
WHERE s.key_id = ANY ($1::text[])
GROUP BY s.saga_id, s.seen_at, h.name, h.business_key, h.parent, h.ended, h.version
ORDER BY s.saga_id

-- name: family
-- The sagas of some keys and all that these have called, and their business keys; '' where none of that id is there.
WITH RECURSIVE f AS (
    SELECT s.saga_id, coalesce(h.business_key, '') AS business_key
    FROM vault_sagas s LEFT JOIN saga_heads h ON h.saga_id = s.saga_id AND h.version > 0
    WHERE s.key_id = ANY ($1::text[])
    UNION
    SELECT h.saga_id, h.business_key FROM f JOIN saga_heads h ON h.parent = f.saga_id AND h.parent <> ''
)
SELECT saga_id, business_key FROM f ORDER BY saga_id

-- name: stale
-- Keys that an older key wraps.
SELECT key_id, tenant, wrapped, wrapped_by FROM vault_keys
WHERE wrapped IS NOT NULL AND wrapped_by <> $1 AND key_id > $3 ORDER BY key_id LIMIT $2

-- name: rewrap
UPDATE vault_keys AS k SET wrapped = n.wrapped, wrapped_by = $4
FROM unnest($1::text[], $2::bytea[], $3::text[]) AS n (key_id, wrapped, before)
WHERE k.key_id = n.key_id AND k.wrapped_by = n.before AND k.wrapped IS NOT NULL

-- name: lock
-- Keys that are to be erased, locked: no saga takes one of them up meanwhile.
SELECT key_id, held_for FROM vault_keys WHERE key_id = ANY ($1::text[]) AND wrapped IS NOT NULL ORDER BY key_id FOR UPDATE

-- name: erase
UPDATE vault_keys SET wrapped = NULL, subject = NULL, erased_at = clock_timestamp(), request = $2
WHERE key_id = ANY ($1::text[]) AND wrapped IS NOT NULL

-- name: hold
-- A legal hold of some keys, or its end where the reason is ''.
UPDATE vault_keys SET held_for = $2, held_by = $3, held_at = CASE WHEN $2 <> '' THEN now() END WHERE key_id = ANY ($1::text[]) AND wrapped IS NOT NULL

-- name: ask
INSERT INTO vault_erasures (tenant, request, key_ids, reason, asked_by) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant, request) DO NOTHING

-- name: asked
SELECT tenant, request, key_ids, reason, asked_by, asked_at, confirmed_by, erased_at,
       told, untold, tries, again_at, finished_at
FROM vault_erasures WHERE tenant = $1 AND request = $2

-- name: all_asked
SELECT tenant, request, key_ids, reason, asked_by, asked_at, confirmed_by, erased_at,
       told, untold, tries, again_at, finished_at
FROM vault_erasures WHERE tenant = $1 ORDER BY asked_at DESC, request LIMIT $2

-- name: erased
-- Who destroyed the keys has a while to tell the sagas of it, before others take that up.
UPDATE vault_erasures SET confirmed_by = $3, erased_at = clock_timestamp(), key_ids = $4,
       again_at = clock_timestamp() + make_interval(secs => $5)
WHERE tenant = $1 AND request = $2 AND erased_at IS NULL

-- name: unfinished
-- One erasure that somebody has left, leased to whoever asks: $1 seconds, or longer each time it could not be finished.
UPDATE vault_erasures AS e
SET tries = e.tries + 1, again_at = clock_timestamp() + make_interval(secs => least($1 * 2.0 ^ least(e.tries, 20), $2))
FROM (
    SELECT tenant, request FROM vault_erasures
    WHERE erased_at IS NOT NULL AND finished_at IS NULL AND again_at <= clock_timestamp()
    ORDER BY again_at LIMIT 1 FOR UPDATE SKIP LOCKED
) d
WHERE e.tenant = d.tenant AND e.request = d.request
RETURNING e.tenant, e.request, e.key_ids, e.reason, e.asked_by, e.asked_at, e.confirmed_by, e.erased_at,
          e.told, e.untold, e.tries, e.again_at, e.finished_at

-- name: finished
-- How many sagas say so; where all do, nothing is left.
UPDATE vault_erasures SET told = $3, untold = $4, finished_at = CASE WHEN $4 = 0 THEN clock_timestamp() END
WHERE tenant = $1 AND request = $2 AND finished_at IS NULL

-- name: end_of_letters
-- Keys of what nobody could read end by themselves.
UPDATE vault_keys SET wrapped = NULL, subject = NULL, erased_at = clock_timestamp(), request = 'end of life'
WHERE tenant = $1 AND subject = ANY ($2::bytea[]) AND wrapped IS NOT NULL

-- name: held
-- Why some of these keys must not be erased now.
SELECT held_for, held_by FROM vault_keys WHERE key_id = ANY ($1::text[]) AND held_for <> '' ORDER BY key_id

-- name: in_use
-- Does anybody have a key here that lives? Then there are values that only the key file opens.
SELECT EXISTS (SELECT FROM vault_keys WHERE key_id <> $1 AND wrapped IS NOT NULL) AS used

-- name: holds
-- Legal holds, the newest first: one for each person, with the keys that it covers. Whose keys belong together was not
-- noted before held_at was: those stand alone, so that letting one go lets nobody else go.
SELECT held_for, held_by, held_at, array_agg(key_id ORDER BY key_id) AS key_ids
FROM vault_keys WHERE tenant = $1 AND held_for <> ''
GROUP BY held_for, held_by, held_at, CASE WHEN held_at IS NULL THEN key_id END ORDER BY held_at DESC NULLS LAST, held_for LIMIT $2

-- name: let_go
-- The end of the hold that covers a key.
UPDATE vault_keys AS k SET held_for = '', held_by = '', held_at = NULL
FROM vault_keys AS h
WHERE h.tenant = $1 AND h.key_id = $2 AND h.held_for <> '' AND k.tenant = h.tenant AND k.held_for = h.held_for
  AND k.held_by = h.held_by AND (k.held_at = h.held_at OR k.key_id = h.key_id)

-- name: sealed_in
-- Records of these sagas in which something is sealed.
SELECT body FROM records
WHERE tenant = $1 AND saga_id = ANY ($2::text[]) AND position('\x706572736f6e616c3a76313a'::bytea IN body) > 0
