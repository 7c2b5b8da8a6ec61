-- The payment service: cards it knows, and a ledger of what was charged and refunded.

CREATE TABLE cards (
    card   text COLLATE "C" PRIMARY KEY,
    covers numeric(15, 2) NOT NULL CHECK (covers >= 0)
);
COMMENT ON TABLE cards IS 'read-only: cards by token, and the largest single charge that they cover';

-- One row per command. amount: above zero what was charged, below zero what was given back.
CREATE TABLE entries (
    key         text COLLATE "C" PRIMARY KEY, -- the command's idempotency key
    charge_id   text COLLATE "C" NOT NULL,
    order_id    text NOT NULL,
    customer_id text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('charge', 'refund')),
    amount      numeric(15, 2) NOT NULL CHECK ((kind = 'charge' AND amount > 0) OR (kind = 'refund' AND amount < 0)),
    currency    text NOT NULL,
    entered_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (charge_id, kind)                  -- nothing is refunded twice, whatever anybody sends
);
COMMENT ON TABLE entries IS 'append-only: every charge and refund';

INSERT INTO cards (card, covers) VALUES ('card-gold', 1000000), ('card-blue', 500), ('card-empty', 0);
