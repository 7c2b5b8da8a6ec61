-- The shipping department: what happened to each shipment, in order.

CREATE TABLE legs (
    key           text COLLATE "C" PRIMARY KEY, -- the command's idempotency key
    shipment_id   text COLLATE "C" NOT NULL,
    order_id      text NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('booked', 'cancelled', 'handed_over')),
    tracking_code text NOT NULL,
    address       text NOT NULL,
    happened_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (shipment_id, kind)
);
-- A parcel is sent away or handed over, never both, whatever anybody sends.
CREATE UNIQUE INDEX legs_end_once ON legs (shipment_id) WHERE kind <> 'booked';
COMMENT ON TABLE legs IS 'append-only: bookings, cancellations and hand-overs';
