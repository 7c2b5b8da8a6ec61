-- Sessions, keys, local users, barred people, the security log. Instants are the database's.

-- name: begin_session
WITH old AS (
    DELETE FROM sessions WHERE key IN (SELECT key FROM sessions WHERE ends_at < clock_timestamp() LIMIT 100)
), known AS (
    INSERT INTO known_people (tenant, person, roles, capacities, known_at, known_by)
    VALUES ($2, $3, $5, $6, clock_timestamp(), $7)
    ON CONFLICT (tenant, person) DO UPDATE SET roles = excluded.roles, capacities = excluded.capacities,
        known_at = excluded.known_at, known_by = excluded.known_by
)
INSERT INTO sessions (key, tenant, person, name, roles, capacities, authentication, authenticated_at, ends_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, clock_timestamp() + make_interval(secs => $9))

-- name: session
-- Using a session ($3) keeps it from going idle; that is noted at most twice a minute.
WITH used AS (
    UPDATE sessions SET seen_at = clock_timestamp()
     WHERE $3 AND key = $1 AND ends_at > clock_timestamp()
       AND seen_at BETWEEN clock_timestamp() - make_interval(secs => $2) AND clock_timestamp() - interval '30 seconds'
)
SELECT s.tenant, s.person, s.name, s.roles, s.capacities, s.authentication, s.authenticated_at, s.ends_at
  FROM sessions s
 WHERE s.key = $1 AND s.ends_at > clock_timestamp() AND s.seen_at > clock_timestamp() - make_interval(secs => $2)
   AND NOT EXISTS (SELECT FROM barred_people b WHERE b.tenant = s.tenant AND b.person = s.person)

-- name: end_session
DELETE FROM sessions WHERE key = $1

-- name: end_sessions_of
DELETE FROM sessions WHERE tenant = $1 AND person = $2

-- name: begin_sign_in
WITH old AS (
    DELETE FROM sign_ins WHERE key IN (
        SELECT key FROM sign_ins WHERE began_at < clock_timestamp() - make_interval(secs => $7) LIMIT 100)
)
INSERT INTO sign_ins (key, state, nonce, verifier, next, fresh) VALUES ($1, $2, $3, $4, $5, $6)

-- name: take_sign_in
-- Once: whoever comes a second time finds nothing.
DELETE FROM sign_ins WHERE key = $1 AND began_at > clock_timestamp() - make_interval(secs => $2)
RETURNING state, nonce, verifier, next, fresh

-- name: make_key
INSERT INTO api_keys (prefix, secret_hash, tenant, name, capacities, actions, made_by, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp() + make_interval(secs => $8))

-- name: key
SELECT prefix, secret_hash, tenant, name, capacities, actions, made_by, made_at, expires_at, revoked_at, revoked_by,
       revoked_at IS NULL AND expires_at > clock_timestamp() AS usable
  FROM api_keys WHERE prefix = $1

-- name: keys
SELECT prefix, secret_hash, tenant, name, capacities, actions, made_by, made_at, expires_at, revoked_at, revoked_by,
       revoked_at IS NULL AND expires_at > clock_timestamp() AS usable
  FROM api_keys WHERE ($1::text IS NULL OR tenant = $1) ORDER BY made_at DESC, prefix LIMIT 1000

-- name: revoke_key
UPDATE api_keys SET revoked_at = clock_timestamp(), revoked_by = $2 WHERE prefix = $1 AND revoked_at IS NULL

-- name: know_person
-- From a token, which says how it was when it was made: what was learned since stays.
INSERT INTO known_people AS k (tenant, person, roles, capacities, known_at, known_by) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (tenant, person) DO UPDATE SET roles = excluded.roles, capacities = excluded.capacities,
    known_at = excluded.known_at, known_by = excluded.known_by
 WHERE k.known_at <= excluded.known_at

-- name: put_local_user
WITH known AS (
    INSERT INTO known_people (tenant, person, roles, capacities, known_at, known_by)
    VALUES ($2, $1, $5, $6, clock_timestamp(), 'local-user')
    ON CONFLICT (tenant, person) DO UPDATE SET roles = excluded.roles, capacities = excluded.capacities,
        known_at = excluded.known_at, known_by = excluded.known_by
)
INSERT INTO local_users (person, tenant, name, about, roles, capacities, password_hash)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (person) DO UPDATE SET tenant = excluded.tenant, name = excluded.name, about = excluded.about,
    roles = excluded.roles, capacities = excluded.capacities, password_hash = excluded.password_hash

-- name: local_user
SELECT person, tenant, name, about, roles, capacities, password_hash FROM local_users u WHERE person = $1
   AND NOT EXISTS (SELECT FROM barred_people b WHERE b.tenant = u.tenant AND b.person = u.person)

-- name: local_users
SELECT person, tenant, name, about, roles, capacities, password_hash FROM local_users u
 WHERE NOT EXISTS (SELECT FROM barred_people b WHERE b.tenant = u.tenant AND b.person = u.person)
 ORDER BY name, person LIMIT 100

-- name: remove_local_user
-- Nobody any more: what they lent is worth nothing from now on.
WITH known AS (
    UPDATE known_people k SET roles = '{}', capacities = '{}', known_at = clock_timestamp()
      FROM local_users u WHERE u.person = $1 AND k.tenant = u.tenant AND k.person = u.person
)
DELETE FROM local_users WHERE person = $1

-- name: bar
WITH ended AS (DELETE FROM sessions WHERE tenant = $1 AND person = $2)
INSERT INTO barred_people (tenant, person, reason, barred_by) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING

-- name: admit
DELETE FROM barred_people WHERE tenant = $1 AND person = $2

-- name: is_barred
SELECT EXISTS (SELECT FROM barred_people WHERE tenant = $1 AND person = $2) AS barred

-- name: barred
SELECT tenant, person, reason, barred_by, barred_at FROM barred_people ORDER BY barred_at DESC LIMIT 1000

-- name: log
INSERT INTO security_log (at, tenant, actor, authentication, action, object, outcome, status, code, request_id, address)
SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[],
                     $8::smallint[], $9::text[], $10::text[], $11::text[])

-- name: logged
-- Newest first. A filter that is null does not count. Who came without a name belongs to no tenant ('') and may have
-- asked for what is anybody's: $7 says whether those are shown.
SELECT id, at, tenant, actor, authentication, action, object, outcome, status, code, request_id, address
  FROM security_log
 WHERE (tenant = $1 OR $7 AND tenant = '') AND id < $2
   AND ($4::text IS NULL OR outcome = $4) AND ($5::text IS NULL OR actor = $5) AND ($6::text IS NULL OR action = $6)
 ORDER BY id DESC LIMIT $3

-- name: server_flaws
-- What a production database must not be.
SELECT coalesce((SELECT rolsuper FROM pg_roles WHERE rolname = current_user), false) AS superuser,
       coalesce((SELECT rolbypassrls FROM pg_roles WHERE rolname = current_user), false) AS bypasses_rls,
       current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit
