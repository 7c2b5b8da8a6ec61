-- The payment service's statements; `migrations/payments` has the tables.

-- name: cards
SELECT card, covers FROM cards WHERE card = ANY($1::text[]);

-- name: add_entries
INSERT INTO entries (key, charge_id, order_id, customer_id, kind, amount, currency)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::numeric[], $7::text[]);

-- name: charges
SELECT charge_id, order_id, customer_id, amount, currency FROM entries
 WHERE charge_id = ANY($1::text[]) AND kind = 'charge';

-- name: per_order
-- What each order has paid in the end: nothing, or its total.
SELECT order_id, sum(amount) AS paid, count(*) FILTER (WHERE kind = 'charge') AS charges,
       count(*) FILTER (WHERE kind = 'refund') AS refunds
  FROM entries GROUP BY order_id ORDER BY order_id;

-- name: prove
-- Every charge that was given back in part, twice, or without having been charged: there must be none.
SELECT charge_id, sum(amount) AS left_over, count(*) AS entries FROM entries
 GROUP BY charge_id
HAVING count(*) FILTER (WHERE kind = 'charge') <> 1
    OR (count(*) > 1 AND sum(amount) <> 0);
