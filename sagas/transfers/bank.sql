-- The banking backend's statements; `migrations/bank` has the tables.

-- name: account
SELECT account, owner, currency, balance FROM accounts WHERE account = $1;

-- name: accounts_of
SELECT account, owner, currency, balance FROM accounts WHERE lower(owner) = lower($1) ORDER BY account;

-- name: lock_accounts
-- In the order of names, so that two transfers never wait for each other in a circle.
SELECT account, currency, balance FROM accounts WHERE account = ANY($1::text[]) ORDER BY account FOR UPDATE;

-- name: find
SELECT fingerprint, reference, refusal_code, refusal FROM transfers WHERE key = $1;

-- name: add_transfer
-- No row: the key is there already; whoever waits here sees what the first one did.
INSERT INTO transfers (key, fingerprint, reference, refusal_code, refusal) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (key) DO NOTHING RETURNING key;

-- name: next_reference
SELECT 'B-' || lpad(nextval('references_given')::text, 9, '0');

-- name: move
UPDATE accounts a SET balance = a.balance + m.amount
  FROM unnest($1::text[], $2::numeric[]) AS m (account, amount) WHERE a.account = m.account;

-- name: post
INSERT INTO postings (reference, account, amount)
SELECT $1, account, amount FROM unnest($2::text[], $3::numeric[]) AS p (account, amount);

-- name: prove
-- Every account whose balance is not what it began with plus its postings, and every transfer that does not add up to
-- nothing: there must be none.
SELECT a.account AS what, a.balance - a.opened - coalesce(sum(p.amount), 0) AS off
  FROM accounts a LEFT JOIN postings p USING (account)
 GROUP BY a.account, a.balance, a.opened
HAVING a.balance <> a.opened + coalesce(sum(p.amount), 0)
UNION ALL
SELECT reference, sum(amount) FROM postings GROUP BY reference HAVING sum(amount) <> 0 OR count(*) <> 2;
