-- Answers of the HTTP API by idempotency key (orchestrator/store/answers.py).
CREATE TABLE api_answers (
    scope         text        NOT NULL,
    key           text        NOT NULL,
    fingerprint   bytea       NOT NULL,
    claimed_until timestamptz NOT NULL,
    claims        integer     NOT NULL DEFAULT 1,
    status        smallint,
    headers       bytea,
    body          bytea,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (scope, key),
    CHECK ((status IS NULL) = (body IS NULL) AND (status IS NULL) = (headers IS NULL))
);
CREATE INDEX api_answers_created ON api_answers (created_at);
COMMENT ON TABLE api_answers IS 'mutable: answers of the HTTP API by idempotency key, forgotten after seven days';
