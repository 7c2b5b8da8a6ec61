-- Conversations; `migrations/chats` has the tables.

-- name: open_session
INSERT INTO sessions (session_id, tenant, user_id) VALUES ($1, $2, $3) ON CONFLICT (session_id) DO NOTHING;

-- name: session
SELECT session_id, user_id, opened_at FROM sessions WHERE session_id = $1 AND tenant = $2;

-- name: sessions_of
SELECT s.session_id, s.user_id, s.opened_at, count(m.number) AS messages, max(m.said_at) AS last_at,
       count(m.request) AS transfers,
       (array_agg(m.transfer_id ORDER BY m.number DESC) FILTER (WHERE m.request IS NOT NULL))[1] AS last_transfer
  FROM sessions s LEFT JOIN messages m USING (session_id)
 WHERE s.tenant = $1 AND s.user_id = $2
 GROUP BY s.session_id
 ORDER BY max(m.said_at) DESC NULLS LAST
 LIMIT $3;

-- name: say
-- No row: this message was said before.
INSERT INTO messages (session_id, speaker, text, message_key, transfer_id, request) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (session_id, message_key) DO NOTHING RETURNING number;

-- name: said
SELECT text, transfer_id, request FROM messages WHERE session_id = $1 AND message_key = $2;

-- name: history
SELECT speaker, text, transfer_id, said_at FROM messages WHERE session_id = $1 ORDER BY number DESC LIMIT $2;

-- name: transfers
-- The transfers that a session asked for, newest first.
SELECT transfer_id, request FROM messages WHERE session_id = $1 AND request IS NOT NULL ORDER BY number DESC LIMIT $2;
