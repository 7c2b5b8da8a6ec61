-- The warehouse's statements; `migrations/inventory` has the tables.

-- name: lock_stock
-- In the order of articles, so that two batches never wait for each other in a circle.
SELECT sku, available FROM stock WHERE sku = ANY($1::text[]) ORDER BY sku FOR UPDATE;

-- name: change_stock
UPDATE stock s SET available = s.available + c.quantity
  FROM unnest($1::text[], $2::bigint[]) AS c (sku, quantity) WHERE s.sku = c.sku;

-- name: add_movements
INSERT INTO movements (key, sku, reservation_id, order_id, kind, quantity)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[]);

-- name: reserved
SELECT reservation_id, sku, order_id, -quantity AS quantity FROM movements
 WHERE reservation_id = ANY($1::text[]) AND kind = 'reserved';

-- name: prove
-- Every article whose stock and ledger disagree: there must be none.
SELECT s.sku, s.received, s.available, coalesce(sum(m.quantity), 0)::bigint AS moved
  FROM stock s LEFT JOIN movements m USING (sku)
 GROUP BY s.sku, s.received, s.available
HAVING s.received + coalesce(sum(m.quantity), 0) <> s.available;

-- name: per_order
-- What each order holds in the end: nothing, or all that it asked for.
SELECT order_id, (-sum(quantity))::bigint AS held, count(*) FILTER (WHERE kind = 'reserved') AS reserved,
       count(*) FILTER (WHERE kind = 'released') AS released
  FROM movements GROUP BY order_id ORDER BY order_id;
