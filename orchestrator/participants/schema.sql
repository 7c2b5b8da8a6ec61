-- A participant's own schema. search_path names it (one plain name) when these run.

-- name: lock
-- One migrator at a time; the number is that of the store's own migrations, so that all of them queue at one place.
SELECT pg_advisory_xact_lock(7307211305912042);

-- name: create_schema
-- Needs CREATE on the database; a schema that is there already needs nothing.
DO $$
DECLARE
    wanted text := trim('"' FROM current_setting('search_path'));
BEGIN
    IF NOT EXISTS (SELECT FROM pg_namespace WHERE nspname = wanted) THEN
        EXECUTE format('CREATE SCHEMA %I', wanted);
    END IF;
END
$$;
