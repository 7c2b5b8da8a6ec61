-- Who is who: sessions, keys, local users, people who are barred, and the log of what was asked and refused.
--
-- No secret is kept: tokens of sessions and keys are 256 bits of chance, so their SHA-256 is enough; passwords of local
-- users, which people choose, are hashed with argon2.

CREATE TABLE sessions (
    key              bytea PRIMARY KEY CHECK (octet_length(key) = 32),
    tenant           text COLLATE "C" NOT NULL,
    person           text COLLATE "C" NOT NULL,
    name             text NOT NULL,
    roles            text[] NOT NULL,
    capacities       text[] NOT NULL,
    authentication   text NOT NULL,
    authenticated_at timestamptz,
    began_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    ends_at          timestamptz NOT NULL
);
COMMENT ON TABLE sessions IS 'mutable: people who are signed in; key = SHA-256 of what their browser holds';
CREATE INDEX sessions_of ON sessions (tenant, person);
CREATE INDEX sessions_end ON sessions (ends_at);

CREATE TABLE sign_ins (
    key      bytea PRIMARY KEY CHECK (octet_length(key) = 32),
    state    text NOT NULL,
    nonce    text NOT NULL,
    verifier text NOT NULL,
    next     text NOT NULL,
    fresh    boolean NOT NULL,
    began_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE sign_ins IS 'mutable: sign-ins under way at the identity provider; used once, forgotten after minutes';
CREATE INDEX sign_ins_began ON sign_ins (began_at);

CREATE TABLE api_keys (
    prefix       text COLLATE "C" PRIMARY KEY,
    secret_hash  bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    tenant       text COLLATE "C" NOT NULL,
    name         text COLLATE "C" NOT NULL,
    capacities   text[] NOT NULL,
    actions      text[] NOT NULL,
    made_by      text NOT NULL,
    made_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    revoked_by   text NOT NULL DEFAULT ''
);
COMMENT ON TABLE api_keys IS 'mutable: keys of services; the secret itself was shown once and is kept nowhere';

CREATE TABLE local_users (
    person        text COLLATE "C" PRIMARY KEY,
    tenant        text COLLATE "C" NOT NULL,
    name          text NOT NULL,
    about         text NOT NULL DEFAULT '',
    roles         text[] NOT NULL,
    capacities    text[] NOT NULL,
    password_hash text NOT NULL DEFAULT ''
);
COMMENT ON TABLE local_users IS 'mutable: people of a demonstration or a developer''s machine; refused in production';

CREATE TABLE barred_people (
    tenant    text COLLATE "C" NOT NULL,
    person    text COLLATE "C" NOT NULL,
    reason    text NOT NULL,
    barred_by text NOT NULL,
    barred_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant, person)
);
COMMENT ON TABLE barred_people IS 'mutable: people who may not come in, whatever their token or session says';

CREATE TABLE security_log (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at             timestamptz NOT NULL,
    tenant         text COLLATE "C" NOT NULL,
    actor          text COLLATE "C" NOT NULL,
    authentication text NOT NULL,
    action         text COLLATE "C" NOT NULL,
    object         text NOT NULL,
    outcome        text COLLATE "C" NOT NULL CHECK (outcome IN ('allowed', 'refused', 'failed')),
    status         smallint NOT NULL,
    code           text NOT NULL,
    request_id     text NOT NULL,
    address        text NOT NULL
);
COMMENT ON TABLE security_log IS 'append-only: who asked for what, and what was refused; one row for each request';
CREATE INDEX security_log_of ON security_log (tenant, id);
CREATE INDEX security_log_refused ON security_log (tenant, id) WHERE outcome = 'refused';
