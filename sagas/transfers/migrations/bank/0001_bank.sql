-- The banking backend: accounts, every answered request by its key, and double-entry postings that prove the balances.

CREATE TABLE accounts (
    account  text COLLATE "C" PRIMARY KEY,
    owner    text NOT NULL,
    currency text NOT NULL,
    opened   numeric(17, 2) NOT NULL CHECK (opened >= 0),
    balance  numeric(17, 2) NOT NULL CHECK (balance >= 0)
) WITH (fillfactor = 50);
CREATE INDEX accounts_by_owner ON accounts (lower(owner));
COMMENT ON TABLE accounts IS 'mutable: accounts with what they began with and what they hold now';

CREATE TABLE transfers (
    key          text COLLATE "C" PRIMARY KEY, -- the caller's Idempotency-Key
    fingerprint  bytea NOT NULL,               -- SHA-256 of the request: same key, other request is refused
    reference    text NOT NULL DEFAULT '',     -- empty: it was refused
    refusal_code text NOT NULL DEFAULT '',
    refusal      text NOT NULL DEFAULT '',
    answered_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((reference = '') <> (refusal_code = ''))
);
CREATE UNIQUE INDEX transfers_by_reference ON transfers (reference) WHERE reference <> '';
COMMENT ON TABLE transfers IS 'append-only: what was asked, by key, and what came of it';

CREATE TABLE postings (
    reference text NOT NULL,
    account   text COLLATE "C" NOT NULL REFERENCES accounts,
    amount    numeric(17, 2) NOT NULL CHECK (amount <> 0),
    posted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (reference, account)
);
CREATE INDEX postings_by_account ON postings (account);
COMMENT ON TABLE postings IS 'append-only: two rows per transfer, which add up to nothing';

CREATE SEQUENCE references_given AS bigint;

INSERT INTO accounts (account, owner, currency, opened, balance)
VALUES ('ravi', 'Ravi', 'EUR', 250000, 250000), ('kiran', 'Kiran', 'EUR', 500, 500), ('maria', 'Maria', 'EUR', 9000, 9000),
       ('asha', 'Asha', 'EUR', 120, 120), ('tom', 'Tom Jones', 'USD', 3000, 3000);
