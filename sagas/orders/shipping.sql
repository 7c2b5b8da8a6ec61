-- The shipping department's statements; `migrations/shipping` has the table.

-- name: add_legs
INSERT INTO legs (key, shipment_id, order_id, kind, tracking_code, address)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]);

-- name: legs
-- What is known of each shipment: its booking, and how it ended, if it did.
SELECT b.shipment_id, b.order_id, b.tracking_code, b.address, e.kind AS ended
  FROM legs b LEFT JOIN legs e ON e.shipment_id = b.shipment_id AND e.kind <> 'booked'
 WHERE b.shipment_id = ANY($1::text[]) AND b.kind = 'booked';

-- name: per_order
SELECT order_id, count(*) FILTER (WHERE kind = 'booked') AS booked,
       count(*) FILTER (WHERE kind = 'cancelled') AS cancelled,
       count(*) FILTER (WHERE kind = 'handed_over') AS handed_over
  FROM legs GROUP BY order_id ORDER BY order_id;

-- name: prove
-- Every shipment that ended without having been booked, or twice: there must be none.
SELECT shipment_id, count(*) AS legs FROM legs
 GROUP BY shipment_id
HAVING count(*) FILTER (WHERE kind = 'booked') <> 1 OR count(*) > 2;
