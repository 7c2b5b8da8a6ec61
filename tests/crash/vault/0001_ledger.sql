-- What the vault did, in the order in which it did it: a history that the store of sagas has no part in.
CREATE TABLE ledger (
    number    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key       text NOT NULL,
    kind      text NOT NULL,
    payout_id text NOT NULL
);
COMMENT ON TABLE ledger IS 'append-only: every effect, as often as it happened';
