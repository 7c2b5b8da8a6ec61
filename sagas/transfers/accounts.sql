-- The statements of the participant accounts; `migrations/accounts` has the tables.

-- name: lock_account
INSERT INTO promising (account) VALUES ($1)
ON CONFLICT (account) DO UPDATE SET account = excluded.account RETURNING account;

-- name: promised
SELECT coalesce(sum(amount), 0) FROM open_holds WHERE account = $1;

-- name: hold
INSERT INTO holds (hold_id, key, transfer_id, account, amount) VALUES ($1, $2, $3, $4, $5);

-- name: how_closed
-- One row for a hold that is known; `kind` is empty while it is open.
SELECT coalesce(c.kind, '') AS kind FROM holds h LEFT JOIN closings c USING (hold_id) WHERE h.hold_id = $1;

-- name: close
INSERT INTO closings (hold_id, kind) SELECT hold_id, $2 FROM holds WHERE hold_id = $1
ON CONFLICT (hold_id) DO NOTHING;

-- name: per_transfer
-- What became of each transfer's money: held, released, used.
SELECT h.transfer_id, h.amount, coalesce(c.kind, 'held') AS became
  FROM holds h LEFT JOIN closings c USING (hold_id) ORDER BY h.transfer_id;
