-- Statements of the three desks; `migrations` has their table.

-- name: add_bookings
INSERT INTO bookings (key, booking_id, trip_id, kind)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]);

-- name: booked
SELECT booking_id, trip_id FROM bookings WHERE booking_id = ANY($1::text[]) AND kind = 'booked';
