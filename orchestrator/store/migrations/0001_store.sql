-- The store's tables: streams, their heads, and what has to happen next.
--
-- Instants are microseconds since 1970 (UTC). Ids compare byte by byte (COLLATE "C"): faster, and the same everywhere.
-- A saga id is derived from its tenant, so a key that begins with a saga id begins with the tenant; every other key
-- names the tenant itself.
-- The comment of a table says what the application's role may do with it (grants.sql).

CREATE FUNCTION clock_us() RETURNS bigint LANGUAGE sql VOLATILE PARALLEL SAFE
    RETURN (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
COMMENT ON FUNCTION clock_us() IS 'the database clock now (not the start of the transaction), in microseconds';

-- Numbers batches in the order in which they got their locks. See feed_unsealed.
CREATE SEQUENCE batches AS bigint;

-- --- streams ---------------------------------------------------------------------------------------------------------

CREATE TABLE saga_heads (
    saga_id            text COLLATE "C" PRIMARY KEY,
    tenant             text COLLATE "C" NOT NULL,
    name               text COLLATE "C" NOT NULL,
    business_key       text COLLATE "C" NOT NULL,
    version            integer NOT NULL,
    definition_version integer NOT NULL DEFAULT 0,
    recorded_at        bigint  NOT NULL DEFAULT 0,
    started_at         bigint  NOT NULL DEFAULT 0,
    stuck              integer NOT NULL DEFAULT 0,
    ended              boolean NOT NULL DEFAULT false,
    hash               bytea   NOT NULL DEFAULT '',
    phase              text    NOT NULL DEFAULT 'new',
    outcome            text    NOT NULL DEFAULT '',
    waiting_for        text    NOT NULL DEFAULT '',
    parent             text COLLATE "C" NOT NULL DEFAULT ''
) WITH (
    -- Every turn updates its head. The free space keeps the new row version on the same page, and no index holds a
    -- column that changes with every turn, so such an update touches no index at all (HOT) and leaves nothing behind.
    fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE saga_heads IS 'mutable: the last line of every stream, with the summary that lists show';
COMMENT ON COLUMN saga_heads.version IS '0 only inside the transaction that makes the row';
CREATE INDEX saga_heads_by_business_key ON saga_heads (tenant, business_key, name);
CREATE INDEX saga_heads_by_start ON saga_heads (tenant, started_at, saga_id);
CREATE INDEX saga_heads_live ON saga_heads (tenant, name, started_at, saga_id) WHERE NOT ended;
CREATE INDEX saga_heads_children ON saga_heads (parent) WHERE parent <> '';
CREATE INDEX saga_heads_stuck ON saga_heads (tenant, started_at, saga_id) WHERE stuck > 0;

-- One partition, for one reason: row level security stands on the parent, which is read, and COPY, which it would forbid,
-- goes into the partition, which the application can add to but not read (grants.sql).
CREATE TABLE records (
    seq     bigint  NOT NULL,
    version integer NOT NULL,
    saga_id text COLLATE "C" NOT NULL,
    tenant  text COLLATE "C" NOT NULL,
    hash    bytea   NOT NULL,
    body    bytea   NOT NULL,
    PRIMARY KEY (saga_id, version)
) PARTITION BY RANGE (saga_id);
COMMENT ON TABLE records IS 'append-only: what happened in every saga; hash = SHA-256(body), body holds the previous hash';
COMMENT ON COLUMN records.seq IS 'batch number * 2^20 + place in the batch; not a position, see feed_sealed';
CREATE INDEX records_by_seq ON records (seq);
CREATE TABLE records_stored PARTITION OF records FOR VALUES FROM (MINVALUE) TO (MAXVALUE)
    -- Bodies of more than 2 kB are compressed, as everywhere: 12 us more a record, and a fifth of the space for ever.
    WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
COMMENT ON TABLE records_stored IS 'add-only: the rows of records';

CREATE TABLE live_runs (
    tenant       text COLLATE "C" NOT NULL,
    name         text COLLATE "C" NOT NULL,
    business_key text COLLATE "C" NOT NULL,
    saga_id      text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, name, business_key)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE live_runs IS 'mutable: one live run per tenant, saga and business key; the row goes when the run ends';

-- --- safe global order -----------------------------------------------------------------------------------------------
-- A number drawn inside a transaction is not commit order. So a batch leaves its number here, and whoever reads next
-- moves the batches that it can see to feed_sealed, which gives their records the next positions. A batch that commits
-- late gets later positions. One row per batch, not per record: see docs/adr/0003-global-order.md.

CREATE TABLE feed_unsealed (
    batch   bigint  PRIMARY KEY,
    records integer NOT NULL CHECK (records BETWEEN 1 AND 1048576)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE feed_unsealed IS 'mutable: committed batches that have no global positions yet';

CREATE TABLE feed_sealed (
    first_position bigint PRIMARY KEY,
    first_seq      bigint NOT NULL UNIQUE,
    last_seq       bigint NOT NULL
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
COMMENT ON TABLE feed_sealed IS 'append-only: the global order; a batch''s records have positions first_position onwards';

-- --- messages in and out ---------------------------------------------------------------------------------------------

-- A row for every message of the last weeks: the key is a digest, which makes table and index a third as large as the
-- three texts would.
CREATE TABLE inbox (
    received_at bigint NOT NULL,
    key         bytea  PRIMARY KEY CHECK (octet_length(key) = 16),
    body_hash   bytea  NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
COMMENT ON TABLE inbox IS 'mutable: messages taken in, with the hash of their bytes; trimmed by age';
COMMENT ON COLUMN inbox.key IS 'BLAKE2b-128 over tenant, source and id; orchestrator.store.columns.message_key computes it';

CREATE TABLE outbox (
    seq        bigint  PRIMARY KEY,
    written_at bigint  NOT NULL,
    version    integer NOT NULL,
    saga_id    text COLLATE "C" NOT NULL,
    topic      text COLLATE "C" NOT NULL,
    key        text    NOT NULL,
    headers    bytea   NOT NULL,
    value      bytea   NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
COMMENT ON TABLE outbox IS 'mutable: every message decided, kept for a while after it was sent; trimmed by age';
COMMENT ON COLUMN outbox.seq IS 'batch number * 2^20 + place in the batch: within a saga, in the order of versions';

-- What is still to be sent: small rows that come and go, so that marking a message never rewrites its bytes. New rows
-- go to the right edge of the index and old ones leave from the left, where the relay's own reading marks them as dead.
CREATE TABLE outbox_unsent (
    seq        bigint   PRIMARY KEY,
    written_at bigint   NOT NULL,
    slot       smallint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE outbox_unsent IS 'mutable: messages not yet known to be on the broker';
COMMENT ON COLUMN outbox_unsent.slot IS 'CRC-32 of the saga id modulo 1024; relays share the slots among them';

CREATE TABLE positions (
    consumer_group text COLLATE "C" NOT NULL,
    topic          text COLLATE "C" NOT NULL,
    partition      integer NOT NULL,
    next_offset    bigint  NOT NULL,
    read_until     bigint  NOT NULL,
    updated_at     bigint  NOT NULL,
    PRIMARY KEY (consumer_group, topic, partition)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE positions IS 'mutable: where each partition is read on, and how far in time it was read';

CREATE TABLE dead_letters (
    id             bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kept_at        bigint  NOT NULL,
    redriven_at    bigint,
    "offset"       bigint  NOT NULL,
    partition      integer NOT NULL,
    tenant         text COLLATE "C" NOT NULL,
    topic          text COLLATE "C" NOT NULL,
    reason         text COLLATE "C" NOT NULL,
    detail         text    NOT NULL,
    message_id     text    NOT NULL,
    key            bytea,
    value          bytea,
    headers        bytea   NOT NULL
);
COMMENT ON TABLE dead_letters IS 'mutable: messages nobody could process, with their original bytes and the reason';
CREATE INDEX dead_letters_waiting ON dead_letters (tenant, id) WHERE redriven_at IS NULL;

-- --- what has to happen next -----------------------------------------------------------------------------------------

CREATE TABLE timers (
    due         bigint  NOT NULL,
    period      bigint  NOT NULL,
    command_seq bigint  NOT NULL,
    armed       integer NOT NULL,
    saga_id     text COLLATE "C" NOT NULL,
    activity    text COLLATE "C" NOT NULL,
    PRIMARY KEY (saga_id, activity)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE timers IS 'mutable: one timer per activity';
COMMENT ON COLUMN timers.period IS 'due minus the time it was set: the attempt''s whole time, which starts at publication';
COMMENT ON COLUMN timers.command_seq IS 'seq of the command whose publication starts the clock, or 0';
CREATE INDEX timers_due ON timers (due);

CREATE TABLE resumes (
    saga_id text COLLATE "C" PRIMARY KEY,
    since   bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE resumes IS 'mutable: sagas that stopped at the record limit of a turn';

CREATE TABLE waits (
    accepts_from bigint NOT NULL,
    opened_at    bigint NOT NULL,
    tenant       text COLLATE "C" NOT NULL,
    type         text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,
    saga_id      text COLLATE "C" NOT NULL,
    activity     text COLLATE "C" NOT NULL,
    PRIMARY KEY (saga_id, activity, type, key)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE waits IS 'mutable: which saga wants which event';
CREATE INDEX waits_by_key ON waits (tenant, type, key);

CREATE TABLE wait_checks (
    since    bigint NOT NULL,
    saga_id  text COLLATE "C" NOT NULL,
    activity text COLLATE "C" NOT NULL,
    type     text COLLATE "C" NOT NULL,
    key      text COLLATE "C" NOT NULL,
    PRIMARY KEY (saga_id, activity, type, key)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE wait_checks IS 'mutable: waits whose early events were not looked for yet under the lock of their key';

CREATE TABLE early_events (
    arrived_at  bigint NOT NULL,
    kept_at     bigint NOT NULL,
    tenant      text COLLATE "C" NOT NULL,
    type        text COLLATE "C" NOT NULL,
    key         text COLLATE "C" NOT NULL,
    event_id    text COLLATE "C" NOT NULL,
    traceparent text   NOT NULL,
    data        bytea  NOT NULL,
    PRIMARY KEY (tenant, type, key, event_id)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE early_events IS 'mutable: events that nobody waited for when they came; trimmed by age';

CREATE TABLE consumed_events (
    consumed_at  bigint NOT NULL,
    tenant       text COLLATE "C" NOT NULL,
    event_id     text COLLATE "C" NOT NULL,
    name         text COLLATE "C" NOT NULL,
    business_key text COLLATE "C" NOT NULL,
    saga_id      text COLLATE "C" NOT NULL,
    PRIMARY KEY (tenant, event_id, name, business_key)
);
COMMENT ON TABLE consumed_events IS 'mutable: an event is taken once by all runs of one saga and business key; trimmed by age';

-- --- people ----------------------------------------------------------------------------------------------------------

CREATE TABLE tasks (
    opened_at bigint NOT NULL,
    due       bigint NOT NULL,
    closed_at bigint,
    saga_id   text COLLATE "C" NOT NULL,
    activity  text COLLATE "C" NOT NULL,
    tenant    text COLLATE "C" NOT NULL,
    closed    text   NOT NULL DEFAULT '',
    data      bytea  NOT NULL,
    PRIMARY KEY (saga_id, activity)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE tasks IS 'mutable: decisions asked of people; closed ones are kept for a while, trimmed by age';
COMMENT ON COLUMN tasks.closed IS 'how it was closed (decided, expired, withdrawn), empty while open';
CREATE INDEX tasks_by_due ON tasks (tenant, due, saga_id, activity);
CREATE INDEX tasks_open ON tasks (tenant, due, saga_id, activity) WHERE closed = '';

-- One row per person or role that an open task is for: an inbox is one index range, in due order, however many are open.
CREATE TABLE task_candidates (
    due       bigint NOT NULL,
    tenant    text COLLATE "C" NOT NULL,
    candidate text COLLATE "C" NOT NULL,
    saga_id   text COLLATE "C" NOT NULL,
    activity  text COLLATE "C" NOT NULL,
    barred    text[] NOT NULL,
    PRIMARY KEY (saga_id, activity, candidate)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE task_candidates IS 'mutable: who may decide an open task; person:maria or role:manager';
COMMENT ON COLUMN task_candidates.barred IS 'people who may not, whatever their role: excluded, or voted already';
CREATE INDEX task_candidates_due ON task_candidates (tenant, candidate, due, saga_id, activity);

-- --- definitions -----------------------------------------------------------------------------------------------------

CREATE TABLE definitions (
    name          text COLLATE "C" NOT NULL,
    version       integer NOT NULL,
    registered_at bigint  NOT NULL,
    hash          text    NOT NULL,
    data          bytea   NOT NULL,
    PRIMARY KEY (name, version)
);
COMMENT ON TABLE definitions IS 'append-only: every saga definition that ever ran here, as it was';

-- --- tenants ---------------------------------------------------------------------------------------------------------
-- A second net under the conditions of every query: a session that has said for which tenant it works
-- (SET LOCAL orchestrator.tenant = 'main') sees and changes no other one's rows. The coordinator works for all tenants
-- and says nothing. The subquery is there to read the setting once per statement.
DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['saga_heads', 'records', 'live_runs', 'dead_letters', 'waits', 'early_events',
                                'consumed_events', 'tasks', 'task_candidates']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON %I USING (coalesce((SELECT current_setting(''orchestrator.tenant'', true)), '''') '
            'IN ('''', tenant))', name);
    END LOOP;
END
$$;
