-- Read models (projections/): every table twice, in the slots a and b. One slot is live; a rebuild fills the other one
-- beside it, compares, and swaps by changing two rows here. See docs/adr/0036-read-models.md.
--
-- Instants and tenants are as in 0001_store.sql. 9223372036854775807 as an end means: not over.

CREATE TABLE projection_slots (
    projection       text    COLLATE "C" NOT NULL,
    slot             text    COLLATE "C" NOT NULL CHECK (slot IN ('a', 'b')),
    live             boolean NOT NULL,
    version          integer NOT NULL,
    position         bigint  NOT NULL DEFAULT 0,
    records          bigint  NOT NULL DEFAULT 0,
    read_until       bigint  NOT NULL DEFAULT 0,
    updated_at       bigint  NOT NULL DEFAULT 0,
    stopped_position bigint  NOT NULL DEFAULT 0,
    checksum         bytea   NOT NULL DEFAULT '',
    stopped          text    NOT NULL DEFAULT '',
    PRIMARY KEY (projection, slot)
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE projection_slots IS 'mutable: how far each read model has come, and which of its two slots is read';
COMMENT ON COLUMN projection_slots.checksum IS 'SHA-256 over the hashes of all records that went in, in order';
COMMENT ON COLUMN projection_slots.read_until IS 'when the newest of these records was written';
CREATE UNIQUE INDEX projection_slots_live ON projection_slots (projection) WHERE live;

DO $$
DECLARE
    slot text;
    name text;
BEGIN
    FOREACH slot IN ARRAY ARRAY['a', 'b']
    LOOP
        -- --- audit trail: one row a record, with what people search by ----------------------------------------------
        -- Partitioned for two reasons: COPY, which row level security forbids, goes into the partition (as in
        -- 0001_store.sql), and a later migration can split off old ranges of positions and let them go.
        EXECUTE format($t$
            CREATE TABLE audit_%1$s (
                position           bigint  NOT NULL,
                recorded_at        bigint  NOT NULL,
                version            integer NOT NULL,
                definition_version integer NOT NULL,
                tenant       text COLLATE "C" NOT NULL,
                saga_id      text COLLATE "C" NOT NULL,
                name         text COLLATE "C" NOT NULL,
                business_key text COLLATE "C" NOT NULL,
                customer     text COLLATE "C" NOT NULL,
                type         text COLLATE "C" NOT NULL,
                activity     text COLLATE "C" NOT NULL,
                actor        text COLLATE "C" NOT NULL,
                outcome      text COLLATE "C" NOT NULL,
                PRIMARY KEY (position)
            ) PARTITION BY RANGE (position);
            CREATE TABLE audit_%1$s_stored PARTITION OF audit_%1$s FOR VALUES FROM (MINVALUE) TO (MAXVALUE)
                WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
            CREATE INDEX audit_%1$s_by_time ON audit_%1$s (tenant, recorded_at, position);
            CREATE INDEX audit_%1$s_by_saga ON audit_%1$s (tenant, saga_id, recorded_at, position);
            CREATE INDEX audit_%1$s_by_key ON audit_%1$s (tenant, business_key, recorded_at, position);
            CREATE INDEX audit_%1$s_by_customer ON audit_%1$s (tenant, customer, recorded_at, position)
                WHERE customer <> '';
            CREATE INDEX audit_%1$s_by_type ON audit_%1$s (tenant, type, recorded_at, position);
            CREATE INDEX audit_%1$s_by_actor ON audit_%1$s (tenant, actor, recorded_at, position)
                WHERE actor <> 'system';
            CREATE INDEX audit_%1$s_by_outcome ON audit_%1$s (tenant, outcome, recorded_at, position)
                WHERE outcome <> '';
            COMMENT ON TABLE audit_%1$s IS 'append-only: the audit trail, slot %1$s';
            COMMENT ON TABLE audit_%1$s_stored IS 'add-only: the rows of audit_%1$s';
        $t$, slot);

        -- --- approvals: every state of every task, with the time in which it stood -----------------------------------
        -- reach is the bit length of (valid_to - valid_from): what was open at an instant T began within the last
        -- 2^reach microseconds before T, so each reach is one short index range (projections/approvals.sql).
        EXECUTE format($t$
            CREATE TABLE approvals_%1$s (
                position      bigint   NOT NULL,
                valid_from    bigint   NOT NULL,
                valid_to      bigint   NOT NULL,
                opened_at     bigint   NOT NULL,
                due           bigint   NOT NULL,
                expires       bigint   NOT NULL,
                version       integer  NOT NULL,
                level         integer  NOT NULL,
                round         integer  NOT NULL,
                votes         integer  NOT NULL,
                votes_needed  integer  NOT NULL,
                reach         smallint NOT NULL,
                tenant        text COLLATE "C" NOT NULL,
                saga_id       text COLLATE "C" NOT NULL,
                activity      text COLLATE "C" NOT NULL,
                name          text COLLATE "C" NOT NULL,
                business_key  text COLLATE "C" NOT NULL,
                customer      text COLLATE "C" NOT NULL,
                state         text COLLATE "C" NOT NULL,
                change        text COLLATE "C" NOT NULL,
                actor         text COLLATE "C" NOT NULL,
                outcome       text COLLATE "C" NOT NULL,
                claimed_by    text COLLATE "C" NOT NULL,
                delegated_to  text COLLATE "C" NOT NULL,
                candidates    text[] COLLATE "C" NOT NULL,
                excluded      text[] COLLATE "C" NOT NULL,
                PRIMARY KEY (saga_id, activity, position)
            ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05);
            CREATE INDEX approvals_%1$s_now ON approvals_%1$s (tenant, due, saga_id, activity)
                WHERE state = 'open' AND valid_to = 9223372036854775807;
            CREATE INDEX approvals_%1$s_then ON approvals_%1$s (tenant, reach, valid_from) WHERE state = 'open';
            COMMENT ON TABLE approvals_%1$s IS 'mutable: every state of every task and when it stood, slot %1$s';

            CREATE TABLE approval_votes_%1$s (
                position       bigint  NOT NULL PRIMARY KEY,
                voted_at       bigint  NOT NULL,
                version        integer NOT NULL,
                round          integer NOT NULL,
                decided        boolean NOT NULL,
                counted        boolean NOT NULL,
                tenant         text COLLATE "C" NOT NULL,
                person         text COLLATE "C" NOT NULL,
                saga_id        text COLLATE "C" NOT NULL,
                activity       text COLLATE "C" NOT NULL,
                name           text COLLATE "C" NOT NULL,
                business_key   text COLLATE "C" NOT NULL,
                customer       text COLLATE "C" NOT NULL,
                outcome        text COLLATE "C" NOT NULL,
                reason         text NOT NULL,
                on_behalf_of   text NOT NULL,
                authentication text NOT NULL,
                subject_hash   text NOT NULL,
                roles          text[] NOT NULL
            ) WITH (fillfactor = 90);
            CREATE INDEX approval_votes_%1$s_by_person ON approval_votes_%1$s (tenant, person, voted_at, position);
            CREATE INDEX approval_votes_%1$s_by_task ON approval_votes_%1$s (saga_id, activity);
            COMMENT ON TABLE approval_votes_%1$s IS 'mutable: every vote with its evidence, slot %1$s';
        $t$, slot);

        -- --- journeys: where every saga stands, what it has behind it, and the service levels ------------------------
        EXECUTE format($t$
            CREATE TABLE journeys_%1$s (
                position           bigint  NOT NULL,
                started_at         bigint  NOT NULL,
                changed_at         bigint  NOT NULL,
                ended_at           bigint  NOT NULL,
                place_since        bigint  NOT NULL,
                due                bigint  NOT NULL,
                deadline           bigint  NOT NULL,
                version            integer NOT NULL,
                definition_version integer NOT NULL,
                stuck              integer NOT NULL,
                tenant       text COLLATE "C" NOT NULL,
                saga_id      text COLLATE "C" NOT NULL PRIMARY KEY,
                name         text COLLATE "C" NOT NULL,
                business_key text COLLATE "C" NOT NULL,
                customer     text COLLATE "C" NOT NULL,
                phase        text COLLATE "C" NOT NULL,
                outcome      text COLLATE "C" NOT NULL,
                place        text COLLATE "C" NOT NULL,
                place_kind   text COLLATE "C" NOT NULL,
                places       bytea NOT NULL
            ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
            CREATE INDEX journeys_%1$s_by_start ON journeys_%1$s (tenant, started_at, saga_id);
            CREATE INDEX journeys_%1$s_by_name ON journeys_%1$s (tenant, name, started_at, saga_id);
            CREATE INDEX journeys_%1$s_by_key ON journeys_%1$s (tenant, business_key, started_at, saga_id);
            CREATE INDEX journeys_%1$s_by_customer ON journeys_%1$s (tenant, customer, started_at, saga_id)
                WHERE customer <> '';
            CREATE INDEX journeys_%1$s_by_outcome ON journeys_%1$s (tenant, outcome, started_at, saga_id)
                WHERE outcome <> '';
            CREATE INDEX journeys_%1$s_by_phase ON journeys_%1$s (tenant, phase, started_at, saga_id);
            CREATE INDEX journeys_%1$s_by_place ON journeys_%1$s (tenant, name, place, started_at, saga_id)
                WHERE place <> '';
            CREATE INDEX journeys_%1$s_stuck ON journeys_%1$s (tenant, started_at, saga_id) WHERE stuck > 0;
            CREATE INDEX journeys_%1$s_due ON journeys_%1$s (tenant, due, saga_id) WHERE due < 9223372036854775807;
            COMMENT ON TABLE journeys_%1$s IS 'mutable: where every saga stands, slot %1$s';

            CREATE TABLE journey_spans_%1$s (
                position           bigint  NOT NULL,
                opened_at          bigint  NOT NULL,
                closed_at          bigint  NOT NULL,
                definition_version integer NOT NULL,
                attempts           integer NOT NULL,
                tenant   text COLLATE "C" NOT NULL,
                saga_id  text COLLATE "C" NOT NULL,
                name     text COLLATE "C" NOT NULL,
                activity text COLLATE "C" NOT NULL,
                node     text COLLATE "C" NOT NULL,
                kind     text COLLATE "C" NOT NULL,
                outcome  text COLLATE "C" NOT NULL,
                PRIMARY KEY (saga_id, position, activity, kind)
            ) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
            CREATE INDEX journey_spans_%1$s_by_node ON journey_spans_%1$s (tenant, name, node, closed_at);
            COMMENT ON TABLE journey_spans_%1$s IS 'mutable: what sagas have behind them, slot %1$s';

            CREATE TABLE journey_levels_%1$s (
                hour   bigint NOT NULL,
                n      bigint NOT NULL,
                tenant text COLLATE "C" NOT NULL,
                name   text COLLATE "C" NOT NULL,
                metric text COLLATE "C" NOT NULL,
                PRIMARY KEY (tenant, name, hour, metric)
            ) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02);
            COMMENT ON TABLE journey_levels_%1$s IS 'mutable: what service levels are made of, by hour, slot %1$s';
        $t$, slot);

        FOREACH name IN ARRAY ARRAY['audit', 'approvals', 'approval_votes', 'journeys', 'journey_spans', 'journey_levels']
        LOOP
            EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name || '_' || slot);
            EXECUTE format(
                'CREATE POLICY tenant ON %I USING (coalesce((SELECT current_setting(''orchestrator.tenant'', true)), '''') '
                'IN ('''', tenant))', name || '_' || slot);
        END LOOP;
    END LOOP;

    -- A slot is emptied by its owner, at once and without leaving dead rows, and never while it is live. The application
    -- may ask for that and for nothing else: it has no right to truncate, and none to change the audit trail.
    EXECUTE format($f$
        CREATE FUNCTION projection_clear(wanted text, which text) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = %I, pg_temp AS $body$
        DECLARE
            known constant jsonb := '{"audit": ["audit"], "approvals": ["approvals", "approval_votes"],
                                      "journeys": ["journeys", "journey_spans", "journey_levels"]}';
            base text;
        BEGIN
            PERFORM FROM projection_slots WHERE projection = wanted AND slot = which AND NOT live FOR UPDATE;
            IF NOT FOUND OR NOT known ? wanted THEN
                RAISE EXCEPTION 'projection %% has no slot %% that may be emptied', wanted, which;
            END IF;
            FOR base IN SELECT jsonb_array_elements_text(known -> wanted)
            LOOP
                EXECUTE format('TRUNCATE %%I', base || '_' || which);
            END LOOP;
            UPDATE projection_slots
            SET position = 0, records = 0, checksum = '', read_until = 0, stopped = '', stopped_position = 0
            WHERE projection = wanted AND slot = which;
        END
        $body$ $f$, current_schema());
    REVOKE ALL ON FUNCTION projection_clear(text, text) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION projection_clear(text, text) TO orchestrator_app;
END
$$;
COMMENT ON FUNCTION projection_clear(text, text) IS 'empties a slot that is not live; for a rebuild';
