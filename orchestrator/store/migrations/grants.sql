-- What the application's role may do, set anew after every migration, so that no privilege is ever left over.
--
-- A table says what it is at the beginning of its comment (COMMENT ON TABLE t IS '...'):
--   'append-only: ...'  the application may read and add rows, never change, delete or truncate them
--   'add-only: ...'     the application may add rows, and not even read them (it reads them through another table)
--   'read-only: ...'    the application may only read
--   'mutable: ...'      rows change: the application may read, add, change and delete
-- A table that says nothing is append-only: forgetting the word must fail loudly in a test, not silently open the audit trail.
DO $$
DECLARE
    relation record;
    allowed  text;
BEGIN
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC', current_schema());
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM orchestrator_app', current_schema());
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO orchestrator_app', current_schema());
    FOR relation IN
        SELECT c.oid::regclass AS name, c.relkind, coalesce(obj_description(c.oid, 'pg_class'), '') AS meaning
        FROM pg_class c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
          AND pg_get_userbyid(c.relowner) = current_user
    LOOP
        allowed := CASE
            WHEN relation.relkind = 'S' THEN 'USAGE, SELECT'
            WHEN relation.relkind IN ('v', 'm') OR relation.meaning LIKE 'read-only:%' THEN 'SELECT'
            WHEN relation.meaning LIKE 'add-only:%' THEN 'INSERT'
            WHEN relation.meaning LIKE 'mutable:%' THEN 'SELECT, INSERT, UPDATE, DELETE'
            ELSE 'SELECT, INSERT'
        END;
        EXECUTE format('REVOKE ALL ON %s %s FROM PUBLIC, orchestrator_app',
                       CASE WHEN relation.relkind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, relation.name);
        EXECUTE format('GRANT %s ON %s %s TO orchestrator_app', allowed,
                       CASE WHEN relation.relkind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, relation.name);
    END LOOP;
END
$$;
