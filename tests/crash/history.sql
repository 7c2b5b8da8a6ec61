-- What the crash tests read, as the owner of all schemas.

-- name: rich_accounts
INSERT INTO bank.accounts (account, owner, currency, opened, balance)
SELECT 'rich-' || n, 'Rich ' || n, 'EUR', 1000000000, 1000000000 FROM generate_series(0, $1::int - 1) AS n;

-- name: live
SELECT count(*) FROM saga_heads WHERE NOT ended;

-- name: started
SELECT count(*) FROM saga_heads WHERE business_key = ANY ($1::text[]);

-- name: unfinished
SELECT name, business_key, phase, version, waiting_for, stuck FROM saga_heads WHERE NOT ended LIMIT 8;

-- name: heads
SELECT saga_id, name, business_key, phase, version, hash FROM saga_heads ORDER BY saga_id;

-- name: records
SELECT saga_id, version, body, hash FROM records WHERE saga_id = ANY ($1::text[]) ORDER BY saga_id, version;

-- name: dead_letters
SELECT topic, reason, detail FROM dead_letters
UNION ALL SELECT topic, reason, detail FROM inventory.dead_letters
UNION ALL SELECT topic, reason, detail FROM payments.dead_letters
UNION ALL SELECT topic, reason, detail FROM shipping.dead_letters
UNION ALL SELECT topic, reason, detail FROM accounts.dead_letters
UNION ALL SELECT topic, reason, detail FROM clearing.dead_letters
UNION ALL SELECT topic, reason, detail FROM teller.dead_letters
UNION ALL SELECT topic, reason, detail FROM case_ai.dead_letters
UNION ALL SELECT topic, reason, detail FROM case_desk.dead_letters;

-- name: left_over
SELECT 'timer' AS what, saga_id FROM timers
UNION ALL SELECT 'open task', saga_id FROM tasks WHERE closed = ''
UNION ALL SELECT 'resume', saga_id FROM resumes
UNION ALL SELECT 'wait', saga_id FROM waits
UNION ALL SELECT 'unsent message', o.saga_id FROM outbox_unsent JOIN outbox o USING (seq)
UNION ALL SELECT 'notice', saga_id FROM notice_outbox WHERE state = 'waiting'
UNION ALL SELECT 'record that nobody was told of', '' FROM notice_position
 WHERE position < (SELECT coalesce(max(first_position + last_seq - first_seq), 0) FROM feed_sealed)
UNION ALL SELECT 'batch without a position', '' FROM feed_unsealed;

-- name: cases
SELECT c.doc_id, c.status, c.refund, c.decided_by,
       (SELECT coalesce(sum(r.amount), 0) FROM case_desk.refunds r WHERE r.doc_id = c.doc_id) AS paid,
       (SELECT count(*) FROM case_desk.refunds r WHERE r.doc_id = c.doc_id) AS payments,
       (SELECT count(*) FROM case_desk.letters l WHERE l.doc_id = c.doc_id AND l.recipient = 'customer') AS letters,
       (SELECT count(*) FROM case_desk.letters l WHERE l.doc_id = c.doc_id AND l.recipient = 'regulator') AS to_regulator,
       (SELECT count(*) FROM case_desk.notifications n WHERE n.doc_id = c.doc_id) AS notifications
  FROM case_desk.cases c;

-- name: decided
-- Messages ("saga/version") with a committed outbox row and a committed record.
SELECT o.saga_id || '/' || o.version AS id FROM outbox o
  JOIN records r ON r.saga_id = o.saga_id AND r.version = o.version;

-- name: prove_bank
SELECT a.account AS what, a.balance - a.opened - coalesce(sum(p.amount), 0) AS off
  FROM bank.accounts a LEFT JOIN bank.postings p USING (account)
 GROUP BY a.account, a.balance, a.opened
HAVING a.balance <> a.opened + coalesce(sum(p.amount), 0)
UNION ALL
SELECT reference, sum(amount) FROM bank.postings GROUP BY reference HAVING sum(amount) <> 0 OR count(*) <> 2;

-- name: prove_clearing
SELECT a.account AS what FROM clearing.accounts a LEFT JOIN clearing.postings p USING (account)
 GROUP BY a.account, a.balance, a.opened HAVING a.balance <> a.opened + coalesce(sum(p.amount), 0)
UNION ALL
SELECT reference FROM clearing.postings GROUP BY reference HAVING sum(amount) <> 0 OR count(*) <> 2;

-- name: per_payment
SELECT h.payment_id, coalesce(c.kind, 'held') AS became
  FROM clearing.holds h LEFT JOIN clearing.closings c USING (hold_id) ORDER BY h.payment_id, h.hold_id;

-- name: moved
-- The transfers that the bank has made, by the saga in their idempotency key, with what came to the receiver.
SELECT split_part(t.key, ':', 2) AS saga_id, sum(p.amount) AS amount, count(*) AS times
  FROM bank.transfers t JOIN bank.postings p ON p.reference = t.reference AND p.amount > 0
 WHERE t.reference <> '' GROUP BY 1;

-- name: holds
SELECT h.transfer_id, coalesce(c.kind, 'held') AS became
  FROM accounts.holds h LEFT JOIN accounts.closings c USING (hold_id);
