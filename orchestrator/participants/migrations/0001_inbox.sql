-- What every participant keeps beside its own tables: its inbox, its positions on the broker, its dead letters.
-- Applied in the participant's own schema (search_path), by the owner's role.

-- One row per idempotency key. A row with an outcome or a closing is settled and answers for ever; a row that was
-- started and is not settled belongs to an effect outside this database, whose outcome must be looked up first.
CREATE TABLE inbox (
    tenant           text COLLATE "C" NOT NULL,
    key              text COLLATE "C" NOT NULL,      -- saga:activity:round, without the hash of the body
    wire_key         text COLLATE "C" NOT NULL,      -- as it came, for answers under an earlier key
    type             text        NOT NULL DEFAULT '',
    type_version     integer,
    body_hash        bytea,                          -- SHA-256; NULL where the key was closed before its body came
    command          bytea,                          -- kept for outside effects: a look-up needs it
    first_started_at timestamptz,
    started_at       timestamptz,
    lease_until      timestamptz,                    -- until then a call to the outside may be sent
    starts           integer     NOT NULL DEFAULT 0,
    outcome          text CHECK (outcome IN ('ok', 'refused')),
    reply            bytea,
    reply_type       text        NOT NULL DEFAULT '',
    reply_schema     text        NOT NULL DEFAULT '',
    closed           text CHECK (closed IN ('fenced', 'never')),
    under            text COLLATE "C" NOT NULL DEFAULT '', -- wire key of the earlier round that really did it
    settled_at       timestamptz,
    PRIMARY KEY (tenant, key),
    CHECK ((outcome IS NULL) = (reply IS NULL)),
    CHECK ((settled_at IS NULL) = (outcome IS NULL AND closed IS NULL)),
    CHECK (settled_at IS NOT NULL OR (started_at IS NOT NULL AND lease_until IS NOT NULL AND command IS NOT NULL))
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.1);
COMMENT ON TABLE inbox IS 'mutable: commands by idempotency key, with the stored answer';
-- Rows come in the order of time, so a small index that knows ranges of pages is enough to find old ones.
CREATE INDEX inbox_by_age ON inbox USING brin (settled_at) WITH (pages_per_range = 32);

-- The next message wanted of each partition. Advanced only after the answers to all messages before it were sent.
CREATE TABLE positions (
    topic       text    NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint  NOT NULL CHECK (next_offset >= 0),
    updated_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE positions IS 'mutable: how far this participant has read and answered';

-- Messages that this participant cannot obey, with their bytes as they came.
CREATE TABLE dead_letters (
    id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic          text    NOT NULL,
    partition      integer NOT NULL,
    message_offset bigint  NOT NULL,
    message_key    bytea,
    value          bytea,
    header_names   text[]  NOT NULL,
    header_values  bytea[] NOT NULL,
    reason         text    NOT NULL,
    detail         text    NOT NULL,
    kept_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (topic, partition, message_offset, reason)
);
COMMENT ON TABLE dead_letters IS 'append-only: messages that could not be obeyed';
