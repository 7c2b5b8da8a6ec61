-- Which records are to become spans: one row for each batch that wrote records of sampled sagas.
--
-- A work set and no cursor: it holds nothing of sagas that are not sampled, and a row goes when its spans are sent. Batch
-- numbers are drawn under the locks of the sagas, so within a saga they follow its versions.

CREATE TABLE trace_batches (
    batch  bigint PRIMARY KEY,
    places integer[] NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE trace_batches IS 'mutable: batches whose sampled records have not been sent as spans yet';
COMMENT ON COLUMN trace_batches.places IS 'pairs: the first and the last place in the batch of records to send';

CREATE TABLE trace_sender (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    holder     text   NOT NULL DEFAULT '',
    held_until bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE trace_sender IS 'mutable: the process that sends spans of records, and until when it may rest on that';
INSERT INTO trace_sender DEFAULT VALUES;
