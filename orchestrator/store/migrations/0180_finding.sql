-- By which ids from elsewhere a saga is found: its trace, and the message that began it (orchestrator/store/finding.py).
-- Filled from the records in their global order by whoever has the time, so the hot path writes nothing of this.
CREATE TABLE saga_finds (
    key     bytea NOT NULL CHECK (octet_length(key) = 16),
    tenant  text COLLATE "C" NOT NULL,
    saga_id text COLLATE "C" NOT NULL,
    PRIMARY KEY (key, saga_id)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
COMMENT ON TABLE saga_finds IS 'append-only: sagas by trace and by the message that began them';
COMMENT ON COLUMN saga_finds.key IS 'BLAKE2b-128 over what it is, the tenant and the id';

CREATE TABLE saga_finds_until (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    position bigint  NOT NULL
);
COMMENT ON TABLE saga_finds_until IS 'mutable: up to which position the records are in saga_finds; one row';
INSERT INTO saga_finds_until (position) VALUES (0);

ALTER TABLE saga_finds ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON saga_finds
    USING (coalesce((SELECT current_setting('orchestrator.tenant', true)), '') IN ('', tenant));
