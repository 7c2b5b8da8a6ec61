-- The two roles of the product. Run once by a superuser (or a role with CREATEROLE); safe to run again.
--   orchestrator_owner  owns the tables, used by `orchestrator migrate` alone
--   orchestrator_app    what the running product logs in as; it adds records and may never change or delete one
-- In production give both a password or certificate: ALTER ROLE orchestrator_app PASSWORD '...'.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'orchestrator_owner') THEN
        CREATE ROLE orchestrator_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'orchestrator_app') THEN
        CREATE ROLE orchestrator_app LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
    END IF;
END
$$;
