-- What operators ask: where sagas stand in numbers, and the streams of those that only a person can move.

-- name: streams
-- The streams of some sagas, a few hundred records each at most: longer ones are opened one by one.
SELECT r.saga_id, r.version, r.body, r.hash
FROM records r
WHERE r.tenant = $1 AND r.saga_id = ANY ($2::text[])
ORDER BY r.saga_id, r.version

-- name: facets
-- Of the newest sagas, how many there are by definition, version, phase and stuck; counted up to a limit.
SELECT name, definition_version, phase, ended, stuck > 0 AS is_stuck, count(*) AS sagas
FROM (
    SELECT name, definition_version, phase, ended, stuck
    FROM saga_heads
    WHERE tenant = $1 AND version > 0
    ORDER BY started_at DESC, saga_id DESC
    LIMIT $2
) AS newest
GROUP BY name, definition_version, phase, ended, is_stuck
ORDER BY name, definition_version, phase

-- name: live_by_place
-- Where the live sagas of one definition stand, by version; counted up to a limit.
SELECT definition_version, waiting_for, count(*) AS sagas
FROM (
    SELECT definition_version, waiting_for
    FROM saga_heads
    WHERE tenant = $1 AND name = $2 AND NOT ended AND version > 0
    ORDER BY started_at, saga_id
    LIMIT $3
) AS live
GROUP BY definition_version, waiting_for
ORDER BY definition_version, sagas DESC, waiting_for

-- name: count_stuck
SELECT count(*) FROM (SELECT FROM saga_heads WHERE tenant = $1 AND stuck > 0 LIMIT $2) AS stuck

-- name: count_letters
SELECT count(*) FROM (SELECT FROM dead_letters WHERE tenant = $1 AND redriven_at IS NULL LIMIT $2) AS waiting

-- name: count_early
SELECT count(*) FROM (SELECT FROM early_events WHERE tenant = $1 LIMIT $2) AS early

-- name: sent_message
-- The message that followed from a record, as it was decided, for as long as the outbox keeps it. Messages of a batch have
-- numbers of the batch's range, so the outbox needs no index by saga: it is one range of its key.
SELECT o.topic, o.key, o.headers, o.value, EXISTS (SELECT FROM outbox_unsent u WHERE u.seq = o.seq) AS unsent
FROM records r
JOIN outbox o ON o.seq BETWEEN (r.seq >> 20) << 20 AND ((r.seq >> 20) << 20) + 1048575
WHERE r.tenant = $1 AND r.saga_id = $2 AND r.version = $3 AND o.saga_id = r.saga_id AND o.version = r.version

-- name: taken_in
-- When a message was taken in, and the SHA-256 of its bytes. The key holds the tenant.
SELECT received_at, body_hash FROM inbox WHERE $1 <> '' AND key = $2
