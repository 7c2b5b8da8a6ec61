-- Operators' work on many stuck sagas at once: who owns a cause, and acts on a frozen list (orchestrator/store/bulk.py).

CREATE TABLE cause_notes (
    at     bigint  NOT NULL DEFAULT clock_us(),
    number integer NOT NULL CHECK (number > 0),
    tenant text COLLATE "C" NOT NULL,
    cause  text COLLATE "C" NOT NULL,
    act    text COLLATE "C" NOT NULL CHECK (act IN ('taken', 'released')),
    by     text COLLATE "C" NOT NULL,
    before text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (tenant, cause, number)
);
COMMENT ON TABLE cause_notes IS 'append-only: who took which cause of stuck sagas, from whom, and gave it back';

CREATE TABLE bulk_acts (
    made_at      bigint  NOT NULL DEFAULT clock_us(),
    changed_at   bigint  NOT NULL DEFAULT clock_us(),
    leased_until bigint  NOT NULL DEFAULT 0,
    needs_two    boolean NOT NULL,
    id           text COLLATE "C" NOT NULL,
    tenant       text COLLATE "C" NOT NULL,
    act          text COLLATE "C" NOT NULL CHECK (act IN ('retry', 'skip', 'cancel')),
    state        text COLLATE "C" NOT NULL CHECK (state IN ('draft', 'proposed', 'running', 'paused', 'stopped', 'done')),
    cause        text COLLATE "C" NOT NULL,
    title        text NOT NULL,
    made_by      text COLLATE "C" NOT NULL,
    confirmed_by text COLLATE "C" NOT NULL DEFAULT '',
    reason       text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, id)
);
COMMENT ON TABLE bulk_acts IS 'mutable: one act on a frozen list of sagas; a draft is a preview';
CREATE INDEX bulk_acts_by_time ON bulk_acts (tenant, made_at DESC, id);
CREATE INDEX bulk_acts_open ON bulk_acts (leased_until) WHERE state IN ('running', 'paused', 'done', 'stopped');

CREATE TABLE bulk_items (
    number       integer NOT NULL,
    version      integer NOT NULL,
    acted_at     bigint,
    next_at      bigint  NOT NULL DEFAULT 0,
    tenant       text COLLATE "C" NOT NULL,
    bulk         text COLLATE "C" NOT NULL,
    saga_id      text COLLATE "C" NOT NULL,
    business_key text NOT NULL,
    place        text COLLATE "C" NOT NULL,
    state        text COLLATE "C" NOT NULL CHECK (state IN ('open', 'taking', 'acted', 'refused', 'excluded')),
    verdict      text COLLATE "C" NOT NULL DEFAULT '' CHECK (verdict IN ('', 'waiting', 'progressed', 'failed')),
    detail       text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant, bulk, number)
);
COMMENT ON TABLE bulk_items IS 'mutable: what became of each saga of a list';
COMMENT ON COLUMN bulk_items.verdict IS 'after the act: still waiting, progressed, or failed again';
CREATE INDEX bulk_items_open ON bulk_items (tenant, bulk, next_at) WHERE state IN ('open', 'taking') OR verdict = 'waiting';

CREATE TABLE bulk_notes (
    at     bigint  NOT NULL DEFAULT clock_us(),
    number integer GENERATED ALWAYS AS IDENTITY,
    tenant text COLLATE "C" NOT NULL,
    bulk   text COLLATE "C" NOT NULL,
    what   text COLLATE "C" NOT NULL,
    by     text COLLATE "C" NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (tenant, bulk, number)
);
COMMENT ON TABLE bulk_notes IS 'append-only: who proposed, confirmed, paused, resumed and stopped an act on many sagas';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['cause_notes', 'bulk_acts', 'bulk_items', 'bulk_notes']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON %I USING (coalesce((SELECT current_setting(''orchestrator.tenant'', true)), '''') '
            'IN ('''', tenant))', name);
    END LOOP;
END
$$;
