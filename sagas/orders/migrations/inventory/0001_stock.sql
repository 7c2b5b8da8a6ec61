-- The warehouse: what has come in, what is free, and a ledger that proves it.

CREATE TABLE stock (
    sku       text COLLATE "C" PRIMARY KEY,
    received  bigint NOT NULL CHECK (received >= 0),
    available bigint NOT NULL CHECK (available >= 0)
) WITH (fillfactor = 50);
COMMENT ON TABLE stock IS 'mutable: pieces received in all, and those that nobody has reserved';

-- One row per command and article. quantity: below zero what was set aside, above zero what came back.
CREATE TABLE movements (
    key            text   COLLATE "C" NOT NULL, -- the command's idempotency key
    sku            text   COLLATE "C" NOT NULL REFERENCES stock,
    reservation_id text   COLLATE "C" NOT NULL,
    order_id       text   NOT NULL,
    kind           text   NOT NULL CHECK (kind IN ('reserved', 'released')),
    quantity       bigint NOT NULL CHECK ((kind = 'reserved' AND quantity < 0) OR (kind = 'released' AND quantity > 0)),
    moved_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (key, sku),
    UNIQUE (reservation_id, sku, kind)          -- nothing comes back twice, whatever anybody sends
);
COMMENT ON TABLE movements IS 'append-only: every reservation and release';

-- Enough for any demonstration; unicorns are sold out.
INSERT INTO stock (sku, received, available)
VALUES ('lamp', 1000000000, 1000000000), ('chair', 1000000000, 1000000000), ('desk', 1000000000, 1000000000),
       ('shelf', 1000000000, 1000000000), ('unicorn', 0, 0);
