-- Conversations: one row per session and per message.

CREATE TABLE sessions (
    session_id text COLLATE "C" PRIMARY KEY,
    tenant     text COLLATE "C" NOT NULL,
    user_id    text NOT NULL,
    opened_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX sessions_by_user ON sessions (tenant, user_id, opened_at DESC);
COMMENT ON TABLE sessions IS 'append-only: conversations, each of one customer';

CREATE TABLE messages (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    session_id  text COLLATE "C" NOT NULL REFERENCES sessions,
    speaker     text NOT NULL CHECK (speaker IN ('customer', 'assistant')),
    text        text NOT NULL,
    message_key text COLLATE "C",     -- the caller's Idempotency-Key: a repeated message is the same message
    transfer_id text COLLATE "C",     -- the transfer that this message asks for, or speaks of
    request     jsonb,                -- what the transfer's saga is started with
    said_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (session_id, message_key)
);
CREATE INDEX messages_by_session ON messages (session_id, number);
CREATE UNIQUE INDEX messages_ask_once ON messages (transfer_id) WHERE request IS NOT NULL;
COMMENT ON TABLE messages IS 'append-only: what was said, in order';
