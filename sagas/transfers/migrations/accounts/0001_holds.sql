-- What is promised of each account: holds, and how each ended.

-- One row per account that ever had a hold; locked while a hold is weighed, so that two cannot promise the same money.
CREATE TABLE promising (
    account text COLLATE "C" PRIMARY KEY
);
COMMENT ON TABLE promising IS 'mutable: a lock per account';

CREATE TABLE holds (
    hold_id     text COLLATE "C" PRIMARY KEY,
    key         text COLLATE "C" NOT NULL UNIQUE, -- the command's idempotency key
    transfer_id text NOT NULL,
    account     text COLLATE "C" NOT NULL REFERENCES promising,
    amount      numeric(17, 2) NOT NULL CHECK (amount > 0),
    held_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX holds_by_account ON holds (account);
COMMENT ON TABLE holds IS 'append-only: every amount that was set aside';

CREATE TABLE closings (
    hold_id   text COLLATE "C" PRIMARY KEY REFERENCES holds, -- a hold ends once, whatever anybody sends
    kind      text NOT NULL CHECK (kind IN ('released', 'used')),
    closed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE closings IS 'append-only: how each hold ended';

CREATE VIEW open_holds AS
SELECT h.* FROM holds h WHERE NOT EXISTS (SELECT FROM closings c WHERE c.hold_id = h.hold_id);
