-- What the migration runner itself asks of the database.

-- name: migrations_table
-- Which numbered files this database has had. checksum is the SHA-256 of the file's bytes, in hex.
CREATE TABLE IF NOT EXISTS schema_migrations (
    name       text        PRIMARY KEY,
    checksum   text        NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_by text        NOT NULL DEFAULT session_user
);
COMMENT ON TABLE schema_migrations IS 'read-only: what orchestrator migrate has applied';

-- name: applied_migrations
SELECT name, checksum FROM schema_migrations ORDER BY name;

-- name: record_migration
INSERT INTO schema_migrations (name, checksum) VALUES ($1, $2);

-- name: migration_lock
-- One migrator at a time. A transaction's lock, not a session's: it also holds behind a pooler in transaction mode,
-- and it cannot be left behind. The number is arbitrary but must never change.
SELECT pg_advisory_xact_lock(7307211305912042);

-- name: wait_no_longer
SELECT set_config('lock_timeout', $1, true);

-- name: app_role_exists
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'orchestrator_app');
