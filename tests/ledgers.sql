-- What the ledgers of the participants of sagas/orders must not show, and what they say of each order; as their owner.

-- name: prove_inventory
SELECT s.sku, s.received, s.available, coalesce(sum(m.quantity), 0)::bigint AS moved
  FROM inventory.stock s LEFT JOIN inventory.movements m USING (sku)
 GROUP BY s.sku, s.received, s.available
HAVING s.received + coalesce(sum(m.quantity), 0) <> s.available;

-- name: prove_payments
SELECT charge_id, sum(amount) AS left_over FROM payments.entries
 GROUP BY charge_id
HAVING count(*) FILTER (WHERE kind = 'charge') <> 1 OR (count(*) > 1 AND sum(amount) <> 0);

-- name: prove_shipping
SELECT shipment_id, count(*) AS legs FROM shipping.legs
 GROUP BY shipment_id
HAVING count(*) FILTER (WHERE kind = 'booked') <> 1 OR count(*) > 2;

-- name: per_order
SELECT order_id, coalesce(held, 0) AS held, coalesce(paid, 0) AS paid, coalesce(handed_over, 0) AS handed_over,
       coalesce(standing, 0) AS standing
  FROM (SELECT order_id, -sum(quantity) AS held FROM inventory.movements GROUP BY order_id) i
  FULL JOIN (SELECT order_id, sum(amount) AS paid FROM payments.entries GROUP BY order_id) p USING (order_id)
  FULL JOIN (SELECT order_id, count(*) FILTER (WHERE kind = 'handed_over') AS handed_over,
                    count(*) FILTER (WHERE kind = 'booked') - count(*) FILTER (WHERE kind = 'cancelled') AS standing
               FROM shipping.legs GROUP BY order_id) s USING (order_id);
