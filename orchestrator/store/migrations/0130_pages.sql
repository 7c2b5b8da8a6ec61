-- What people keep for their pages: how they read, and views of lists that they saved (orchestrator/pages/keeping.py).
CREATE TABLE page_profiles (
    tenant     text COLLATE "C" NOT NULL,
    person     text COLLATE "C" NOT NULL,
    changed_at bigint NOT NULL,
    data       bytea  NOT NULL,
    PRIMARY KEY (tenant, person)
);
COMMENT ON TABLE page_profiles IS 'mutable: locale, time zone, theme and shortcuts of each person';

CREATE TABLE page_views (
    made_at bigint  NOT NULL,
    shared  boolean NOT NULL,
    id      text COLLATE "C" NOT NULL,
    tenant  text COLLATE "C" NOT NULL,
    owner   text COLLATE "C" NOT NULL,
    name    text    NOT NULL,
    path    text    NOT NULL,
    query   text    NOT NULL,
    PRIMARY KEY (tenant, id)
);
COMMENT ON TABLE page_views IS 'mutable: saved views of lists; a shared one opens for everybody of the tenant who may see the list';
CREATE INDEX page_views_by_owner ON page_views (tenant, owner, path, name);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['page_profiles', 'page_views']
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format(
            'CREATE POLICY tenant ON %I USING (coalesce((SELECT current_setting(''orchestrator.tenant'', true)), '''') '
            'IN ('''', tenant))', name);
    END LOOP;
END
$$;
