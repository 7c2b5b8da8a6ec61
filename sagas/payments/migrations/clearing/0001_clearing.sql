-- Clearing: accounts, what is held of them, how each hold ended, and double-entry postings that prove the balances.

CREATE TABLE accounts (
    account  text COLLATE "C" PRIMARY KEY,
    owner    text NOT NULL,
    currency text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    opened   numeric(17, 2) NOT NULL CHECK (opened >= 0),
    balance  numeric(17, 2) NOT NULL CHECK (balance >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE accounts IS 'mutable: accounts with what they began with and what they hold now';

CREATE TABLE holds (
    hold_id    text COLLATE "C" PRIMARY KEY,
    key        text COLLATE "C" NOT NULL UNIQUE, -- the command's idempotency key
    payment_id text NOT NULL,
    debtor     text COLLATE "C" NOT NULL REFERENCES accounts,
    creditor   text COLLATE "C" NOT NULL REFERENCES accounts,
    amount     numeric(17, 2) NOT NULL CHECK (amount > 0),
    currency   text NOT NULL,
    held_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (debtor <> creditor)
);
CREATE INDEX holds_by_debtor ON holds (debtor);
COMMENT ON TABLE holds IS 'append-only: every amount that was set aside';

CREATE TABLE closings (
    hold_id   text COLLATE "C" PRIMARY KEY REFERENCES holds, -- a hold ends once, whatever anybody sends
    kind      text NOT NULL CHECK (kind IN ('cancelled', 'released')),
    reference text COLLATE "C" NOT NULL DEFAULT '',
    closed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((kind = 'released') = (reference <> ''))
);
CREATE UNIQUE INDEX closings_by_reference ON closings (reference) WHERE reference <> '';
COMMENT ON TABLE closings IS 'append-only: how each hold ended';

CREATE TABLE postings (
    reference text COLLATE "C" NOT NULL,
    account   text COLLATE "C" NOT NULL REFERENCES accounts,
    amount    numeric(17, 2) NOT NULL CHECK (amount <> 0),
    purpose   text NOT NULL DEFAULT '',
    posted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (reference, account)
);
CREATE INDEX postings_by_account ON postings (account);
COMMENT ON TABLE postings IS 'append-only: two rows per payment, which add up to nothing';

CREATE SEQUENCE references_given AS bigint;

CREATE VIEW open_holds AS
SELECT h.* FROM holds h WHERE NOT EXISTS (SELECT FROM closings c WHERE c.hold_id = h.hold_id);

INSERT INTO accounts (account, owner, currency, opened, balance)
VALUES ('acme-operating', 'Acme Manufacturing', 'EUR', 90000000, 90000000),
       ('acme-payroll', 'Acme Manufacturing', 'EUR', 4000, 4000),
       ('acme-dollars', 'Acme Manufacturing', 'USD', 250000, 250000),
       ('nordic-steel', 'Nordic Steel', 'EUR', 0, 0),
       ('harbour-freight', 'Harbour Freight', 'EUR', 1200, 1200),
       ('blue-ridge', 'Blue Ridge Partners', 'USD', 500, 500);
