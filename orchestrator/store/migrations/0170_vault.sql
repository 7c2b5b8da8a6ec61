-- Keys of subjects (ADR 60): one data key per person, wrapped by a key that is not in this database.
--
-- Erasing a person takes wrapped and subject away: what was sealed under that key can be opened no more, and nobody can
-- tell any more whose it was.

CREATE TABLE vault_keys (
    key_id     text COLLATE "C" PRIMARY KEY CHECK (key_id ~ '^[A-Za-z0-9_-]{16}$'),
    tenant     text COLLATE "C" NOT NULL,
    subject    bytea CHECK (octet_length(subject) = 32),
    wrapped    bytea,
    wrapped_by text NOT NULL,
    made_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    erased_at  timestamptz,
    request    text NOT NULL DEFAULT '',
    UNIQUE (tenant, subject),
    CHECK ((wrapped IS NULL) = (erased_at IS NOT NULL) AND (subject IS NULL) = (erased_at IS NOT NULL))
);
COMMENT ON TABLE vault_keys IS
    'mutable: keys of subjects; subject = HMAC of tenant and id under a key outside the database';

CREATE TABLE vault_sagas (
    key_id   text COLLATE "C" NOT NULL REFERENCES vault_keys,
    saga_id  text COLLATE "C" NOT NULL,
    seen_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (key_id, saga_id)
);
COMMENT ON TABLE vault_sagas IS 'mutable: which sagas may hold something sealed under a key; some never came to be';

CREATE TABLE vault_erasures (
    tenant       text COLLATE "C" NOT NULL,
    request      text COLLATE "C" NOT NULL CHECK (request <> ''),
    key_ids      text[] NOT NULL,
    reason       text NOT NULL,
    asked_by     text NOT NULL,
    asked_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    confirmed_by text NOT NULL DEFAULT '',
    erased_at    timestamptz,
    PRIMARY KEY (tenant, request)
);
COMMENT ON TABLE vault_erasures IS 'mutable: requests to erase a person, by whom, and when it was done';
