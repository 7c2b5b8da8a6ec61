-- The case desk: who looks after whom, the case table, what was paid back, and what was written to whom.

CREATE TABLE branches (
    branch         text COLLATE "C" PRIMARY KEY,
    branch_manager text NOT NULL,               -- people are named by the ids under which they sign in
    duty_manager   text NOT NULL,               -- takes cases whose manager is unknown or away
    on_duty        boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX branches_one_on_duty ON branches (on_duty) WHERE on_duty;
COMMENT ON TABLE branches IS 'read-only: branches, as the personnel system says; one is on duty for cases of nobody''s';

CREATE TABLE managers (
    email  text COLLATE "C" PRIMARY KEY CHECK (email = lower(email)),
    person text NOT NULL,
    branch text COLLATE "C" NOT NULL REFERENCES branches,
    away   boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE managers IS 'read-only: relationship managers, as the personnel system says';

CREATE TABLE cases (
    tenant         text COLLATE "C" NOT NULL,
    doc_id         text COLLATE "C" NOT NULL,
    customer_id    text NOT NULL,
    manager        text NOT NULL,
    branch         text COLLATE "C" NOT NULL REFERENCES branches,
    amount         numeric(17, 2) NOT NULL CHECK (amount >= 0),
    currency       text NOT NULL,
    priority       text NOT NULL,
    category       text NOT NULL,
    severity       text NOT NULL,
    status         text NOT NULL DEFAULT 'Open' CHECK (status IN ('Open', 'Closed', 'Referred to Ombudsman')),
    resolution     text NOT NULL DEFAULT '',
    rationale      text NOT NULL DEFAULT '',
    refund         numeric(17, 2) NOT NULL DEFAULT 0 CHECK (refund BETWEEN 0 AND amount),
    decided_by     text NOT NULL DEFAULT '',
    opened_at      timestamptz NOT NULL,
    closed_at      timestamptz,
    PRIMARY KEY (tenant, doc_id),
    CHECK ((status = 'Open') = (closed_at IS NULL)),
    CHECK (status <> 'Closed' OR (resolution <> '' AND decided_by <> ''))
) WITH (fillfactor = 70);
CREATE INDEX cases_by_customer ON cases (tenant, customer_id);
COMMENT ON TABLE cases IS 'mutable: every case, as it stands; how it came there is in its saga''s records';

CREATE TABLE refunds (
    refund_id text COLLATE "C" PRIMARY KEY,
    key       text COLLATE "C" NOT NULL UNIQUE, -- the command's idempotency key
    tenant    text COLLATE "C" NOT NULL,
    doc_id    text COLLATE "C" NOT NULL,
    amount    numeric(17, 2) NOT NULL CHECK (amount > 0),
    currency  text NOT NULL,
    paid_at   timestamptz NOT NULL,
    UNIQUE (tenant, doc_id),                    -- a case pays back once, whatever anybody sends
    FOREIGN KEY (tenant, doc_id) REFERENCES cases
);
COMMENT ON TABLE refunds IS 'append-only: what customers got back';

CREATE TABLE letters (
    letter_id  text COLLATE "C" PRIMARY KEY,
    number     bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    recipient  text NOT NULL CHECK (recipient IN ('customer', 'regulator')),
    tenant     text COLLATE "C" NOT NULL,
    doc_id     text COLLATE "C" NOT NULL,
    subject    text NOT NULL CHECK (subject !~ '[\r\n]'),
    body       text NOT NULL,
    written_at timestamptz NOT NULL,
    FOREIGN KEY (tenant, doc_id) REFERENCES cases
);
COMMENT ON TABLE letters IS 'append-only: letters to customers and notifications of the regulator, to be delivered';

CREATE TABLE deliveries (
    letter_id    text COLLATE "C" PRIMARY KEY REFERENCES letters,
    delivered_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE deliveries IS 'append-only: letters that have left the house';

CREATE TABLE notifications (
    notification_id text COLLATE "C" PRIMARY KEY,
    letter_id       text COLLATE "C" NOT NULL UNIQUE REFERENCES letters,
    tenant          text COLLATE "C" NOT NULL,
    doc_id          text COLLATE "C" NOT NULL,
    category        text NOT NULL,
    severity        text NOT NULL,
    amount          numeric(17, 2) NOT NULL,
    currency        text NOT NULL,
    reason          text NOT NULL,
    notified_at     timestamptz NOT NULL,
    UNIQUE (tenant, doc_id),
    FOREIGN KEY (tenant, doc_id) REFERENCES cases
);
CREATE INDEX notifications_by_time ON notifications (tenant, notified_at DESC, notification_id);
COMMENT ON TABLE notifications IS 'append-only: what the regulator was told';

CREATE SEQUENCE notifications_given AS bigint;

INSERT INTO branches (branch, branch_manager, duty_manager, on_duty)
VALUES ('Riverside', 'bruno', 'dita', true), ('Old Town', 'bea', 'rosa', false);
INSERT INTO managers (email, person, branch, away)
VALUES ('rosa@bank.example', 'rosa', 'Riverside', false), ('raj@bank.example', 'raj', 'Old Town', false),
       ('rita@bank.example', 'rita', 'Old Town', true);
