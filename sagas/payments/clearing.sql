-- Clearing's statements; `migrations/clearing` has the tables.

-- name: lock_accounts
-- In the order of names, so that two payments never wait for each other in a circle.
SELECT account, currency, balance FROM accounts WHERE account = ANY($1::text[]) ORDER BY account FOR UPDATE;

-- name: held
SELECT coalesce(sum(amount), 0) FROM open_holds WHERE debtor = $1;

-- name: hold
INSERT INTO holds (hold_id, key, payment_id, debtor, creditor, amount, currency) VALUES ($1, $2, $3, $4, $5, $6, $7);

-- name: held_as
SELECT debtor, creditor, amount FROM holds WHERE hold_id = $1;

-- name: how_closed
-- Asked once the accounts are locked, so that a release and a cancellation of one hold come one after the other.
SELECT kind FROM closings WHERE hold_id = $1;

-- name: close
INSERT INTO closings (hold_id, kind, reference) VALUES ($1, $2, $3);

-- name: next_reference
SELECT 'P-' || lpad(nextval('references_given')::text, 9, '0');

-- name: move
UPDATE accounts a SET balance = a.balance + m.amount
  FROM unnest($1::text[], $2::numeric[]) AS m (account, amount) WHERE a.account = m.account;

-- name: post
INSERT INTO postings (reference, account, amount, purpose)
SELECT $1, account, amount, $4 FROM unnest($2::text[], $3::numeric[]) AS p (account, amount);

-- name: per_payment
-- What became of each payment's money: held, cancelled, released.
SELECT h.payment_id, h.amount, coalesce(c.kind, 'held') AS became
  FROM holds h LEFT JOIN closings c USING (hold_id) ORDER BY h.payment_id;

-- name: prove
-- Accounts that are not what they began with plus their postings, payments that do not add up to nothing, and releases
-- that posted another amount than was held: there must be none.
SELECT a.account AS what FROM accounts a LEFT JOIN postings p USING (account)
 GROUP BY a.account, a.balance, a.opened HAVING a.balance <> a.opened + coalesce(sum(p.amount), 0)
UNION ALL
SELECT reference FROM postings GROUP BY reference HAVING sum(amount) <> 0 OR count(*) <> 2
UNION ALL
SELECT h.hold_id FROM holds h JOIN closings c USING (hold_id)
  LEFT JOIN postings p ON p.reference = c.reference AND p.account = h.creditor
 WHERE c.kind = 'released' AND p.amount IS DISTINCT FROM h.amount;
