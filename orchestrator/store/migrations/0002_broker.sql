-- A log of messages in tables: topics with partitions, groups of consumers. For who has no Kafka (yet).
--
-- Instants are microseconds since 1970 (UTC). Offsets are dense: 0, 1, 2, ... in each partition, without gaps.

CREATE TABLE broker_topic (
    topic_id     integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text    COLLATE "C" NOT NULL UNIQUE CHECK (name <> ''),
    partitions   integer NOT NULL CHECK (partitions BETWEEN 1 AND 10000),
    retention_ms bigint  NOT NULL CHECK (retention_ms > 0),
    created_at   bigint  NOT NULL DEFAULT clock_us()
);
COMMENT ON TABLE broker_topic IS 'mutable: topics; the number of partitions never changes, since keys would move';

-- Whoever appends locks the heads of its partitions until it commits. So offsets are given in the order of commits, and a
-- reader that sees offset n sees all before n: no late commit can be skipped.
CREATE TABLE broker_head (
    topic_id     integer NOT NULL REFERENCES broker_topic,
    partition    integer NOT NULL CHECK (partition >= 0),
    next_offset  bigint  NOT NULL DEFAULT 0,
    start_offset bigint  NOT NULL DEFAULT 0,
    appended_at  bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (topic_id, partition),
    CHECK (0 <= start_offset AND start_offset <= next_offset)
) WITH (
    -- Updated with every append: room for the new row versions on the same page, cleared often.
    fillfactor = 10, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE broker_head IS 'mutable: where each partition begins and ends';

CREATE TABLE broker_message (
    topic_id    integer NOT NULL,
    partition   integer NOT NULL,
    log_offset  bigint  NOT NULL,
    appended_at bigint  NOT NULL,
    key         bytea,
    value       bytea,
    headers     bytea   NOT NULL,
    PRIMARY KEY (topic_id, partition, log_offset)
);
COMMENT ON TABLE broker_message IS 'mutable: the messages; added by producers, deleted by retention';
-- Compressing costs more time than the bytes are worth in a table that is read once and deleted.
ALTER TABLE broker_message ALTER COLUMN value SET STORAGE EXTERNAL;

CREATE TABLE broker_member (
    group_name  text    COLLATE "C" NOT NULL,
    member_id   uuid    NOT NULL,
    instance_id text    COLLATE "C",
    topic_ids   integer[] NOT NULL,
    expires_at  bigint  NOT NULL,
    PRIMARY KEY (group_name, member_id)
);
COMMENT ON TABLE broker_member IS 'mutable: who reads in which group, alive until expires_at';
CREATE UNIQUE INDEX broker_member_by_instance ON broker_member (group_name, instance_id) WHERE instance_id IS NOT NULL;

CREATE TABLE broker_ownership (
    group_name  text    COLLATE "C" NOT NULL,
    topic_id    integer NOT NULL,
    partition   integer NOT NULL,
    member_id   uuid,
    epoch       bigint  NOT NULL DEFAULT 1,
    next_offset bigint,
    PRIMARY KEY (group_name, topic_id, partition),
    FOREIGN KEY (topic_id, partition) REFERENCES broker_head
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0);
COMMENT ON TABLE broker_ownership IS 'mutable: which member reads a partition for its group';
COMMENT ON COLUMN broker_ownership.epoch IS 'counts the changes of owner';
COMMENT ON COLUMN broker_ownership.next_offset IS 'progress that the group reported, for lag and retention; the truth is in the readers'' own store';
