-- The case desk's statements; `migrations/case_desk` has the tables.

-- name: assignment
-- The named manager unless unknown or away; else the manager on duty, of the same branch where there is one.
SELECT CASE WHEN m.away IS FALSE THEN m.person ELSE b.duty_manager END AS manager,
       b.branch, b.branch_manager, m.away IS NOT FALSE AS stand_in
  FROM branches b LEFT JOIN managers m ON m.email = lower($1)
 WHERE b.branch = coalesce(m.branch, (SELECT branch FROM branches WHERE on_duty));

-- name: open_case
INSERT INTO cases (tenant, doc_id, customer_id, manager, branch, amount, currency, priority, category, severity, opened_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: close_case
UPDATE cases SET status = 'Closed', resolution = $3, rationale = $4, refund = $5, decided_by = $6, closed_at = $7
 WHERE tenant = $1 AND doc_id = $2 AND status = 'Open' RETURNING doc_id;

-- name: refer_case
UPDATE cases SET status = 'Referred to Ombudsman', resolution = 'Referred to Ombudsman', rationale = $3, closed_at = $4
 WHERE tenant = $1 AND doc_id = $2 AND status = 'Open' RETURNING doc_id;

-- name: pay_refund
INSERT INTO refunds (refund_id, key, tenant, doc_id, amount, currency, paid_at) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: write_letter
INSERT INTO letters (letter_id, recipient, tenant, doc_id, subject, body, written_at)
VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: next_notification
SELECT 'REG-' || lpad(nextval('notifications_given')::text, 7, '0');

-- name: notify
INSERT INTO notifications
       (notification_id, letter_id, tenant, doc_id, category, severity, amount, currency, reason, notified_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: case
SELECT * FROM cases WHERE tenant = $1 AND doc_id = $2;

-- name: notifications
-- The newest first; after the place that $2 and $3 name.
SELECT n.*, d.delivered_at
  FROM notifications n LEFT JOIN deliveries d USING (letter_id)
 WHERE n.tenant = $1 AND ($2::timestamptz IS NULL OR (n.notified_at, n.notification_id) < ($2, $3::text))
 ORDER BY n.notified_at DESC, n.notification_id DESC LIMIT $4;

-- name: next_letter
-- The oldest letter after this one that has not left the house.
SELECT number, letter_id, recipient, doc_id, subject, body, written_at FROM letters l
 WHERE number > $1 AND NOT EXISTS (SELECT FROM deliveries d WHERE d.letter_id = l.letter_id)
 ORDER BY number LIMIT 1;

-- name: delivered
INSERT INTO deliveries (letter_id) VALUES ($1);

-- name: take_turn
-- One postman at a time; the turn goes with the transaction.
SELECT pg_try_advisory_xact_lock(hashtextextended('case_desk.post', 0));

-- name: prove
-- Cases whose refund was not paid exactly, referred ones without a notification, ended ones without a letter: none.
SELECT c.doc_id, 'refund' AS what FROM cases c LEFT JOIN refunds r USING (tenant, doc_id)
 WHERE c.status = 'Closed' AND c.refund <> coalesce(r.amount, 0)
UNION ALL
SELECT c.doc_id, 'notification' FROM cases c LEFT JOIN notifications n USING (tenant, doc_id)
 WHERE (c.status = 'Referred to Ombudsman') <> (n.doc_id IS NOT NULL)
UNION ALL
SELECT c.doc_id, 'letter' FROM cases c
 WHERE c.status <> 'Open'
   AND (SELECT count(*) FROM letters l WHERE l.tenant = c.tenant AND l.doc_id = c.doc_id AND l.recipient = 'customer') <> 1;
