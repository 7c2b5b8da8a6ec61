-- What people keep beside the streams: drafts of decisions, and who stands in for whom while somebody is away.

CREATE TABLE task_drafts (
    saved_at     bigint NOT NULL,
    tenant       text COLLATE "C" NOT NULL,
    saga_id      text COLLATE "C" NOT NULL,
    activity     text COLLATE "C" NOT NULL,
    person       text COLLATE "C" NOT NULL,
    subject_hash text COLLATE "C" NOT NULL,
    form         bytea NOT NULL,
    PRIMARY KEY (saga_id, activity, person),
    FOREIGN KEY (saga_id, activity) REFERENCES tasks (saga_id, activity) ON DELETE CASCADE
);
COMMENT ON TABLE task_drafts IS 'mutable: forms that people filled in and did not send; no evidence; they go with their task';

-- Who is away, who stands in, until when, and with which rights: those of the absent person when they arranged it.
CREATE TABLE substitutions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     text COLLATE "C" NOT NULL,
    person     text COLLATE "C" NOT NULL,
    substitute text COLLATE "C" NOT NULL,
    roles      text[] NOT NULL,
    since      bigint NOT NULL,
    until      bigint NOT NULL,
    reason     text   NOT NULL,
    made_at    bigint NOT NULL,
    made_by    text COLLATE "C" NOT NULL,
    CHECK (since < until AND person <> substitute)
);
COMMENT ON TABLE substitutions IS 'append-only: who stood in for whom, from when until when, and who arranged it';
CREATE INDEX substitutions_by_substitute ON substitutions (tenant, substitute, until);
CREATE INDEX substitutions_by_person ON substitutions (tenant, person, until);

CREATE TABLE substitutions_ended (
    id       bigint PRIMARY KEY REFERENCES substitutions (id),
    tenant   text COLLATE "C" NOT NULL,
    ended_at bigint NOT NULL,
    ended_by text COLLATE "C" NOT NULL
);
COMMENT ON TABLE substitutions_ended IS 'append-only: substitutions that were taken back before their time, and by whom';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['task_drafts', 'substitutions', 'substitutions_ended']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON %I USING (coalesce((SELECT current_setting(''orchestrator.tenant'', true)), '''') '
            'IN ('''', tenant))', name);
    END LOOP;
END
$$;
