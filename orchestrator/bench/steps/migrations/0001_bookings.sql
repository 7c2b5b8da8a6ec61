-- Bookings of one desk (flights, hotels or cars). Only `orchestrator bench steps` makes these tables.

CREATE TABLE bookings (
    key        text COLLATE "C" PRIMARY KEY, -- the command's idempotency key
    booking_id text COLLATE "C" NOT NULL,
    trip_id    text COLLATE "C" NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('booked', 'cancelled')),
    entered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (booking_id, kind)
);
COMMENT ON TABLE bookings IS 'append-only: what was booked, and what was cancelled';
