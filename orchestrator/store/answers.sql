-- Answers of the HTTP API by idempotency key. A row without a status is a request that runs, or one that a crash ended.

-- name: claim
-- Takes a key that is new, or that a dead process left behind. No row: somebody has it; `read_answer` says what is there.
INSERT INTO api_answers AS a (scope, key, fingerprint, claimed_until)
VALUES ($1, $2, $3, clock_timestamp() + make_interval(secs => $4))
ON CONFLICT (scope, key) DO UPDATE
   SET claimed_until = excluded.claimed_until, claims = a.claims + 1
 WHERE a.status IS NULL AND a.claimed_until < clock_timestamp() AND a.fingerprint = excluded.fingerprint
RETURNING claims;

-- name: read_answer
SELECT fingerprint, status, headers, body,
       greatest(0, extract(epoch FROM claimed_until - clock_timestamp()))::float8 AS seconds_left
  FROM api_answers WHERE scope = $1 AND key = $2;

-- name: finish
-- `claims` fences: who lost its claim to another process must not overwrite that one's answer.
UPDATE api_answers SET status = $4, headers = $5, body = $6
 WHERE scope = $1 AND key = $2 AND claims = $3 AND status IS NULL;

-- name: release
DELETE FROM api_answers WHERE scope = $1 AND key = $2 AND claims = $3 AND status IS NULL;

-- name: forget_old
DELETE FROM api_answers WHERE (scope, key) IN (
    SELECT scope, key FROM api_answers
     WHERE created_at < clock_timestamp() - make_interval(secs => $1)
     ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED);
