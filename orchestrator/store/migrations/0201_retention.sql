-- How long rows stay that the application may add and never delete. It can ask for the oldest to go, no younger than the
-- owner allows, whatever its settings say; what went is told in the log itself.

CREATE TABLE retention (
    kept  text PRIMARY KEY,
    least interval NOT NULL CHECK (least >= interval '1 day')
);
COMMENT ON TABLE retention IS 'read-only: how long rows stay at least that the application cannot delete itself; the owner says so';
INSERT INTO retention (kept, least) VALUES ('security_log', interval '180 days');

DO $$
BEGIN
    EXECUTE format($f$
        CREATE FUNCTION trim_security_log(older_us bigint, rows_max int) RETURNS bigint
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = %I, pg_temp AS $body$
        DECLARE
            floor  interval := (SELECT least FROM retention WHERE kept = 'security_log');
            before timestamptz;
            gone   bigint;
            first  bigint;
            last   bigint;
        BEGIN
            IF floor IS NULL OR older_us IS NULL OR rows_max IS NULL THEN
                RETURN 0;  -- nobody said how long: then it stays
            END IF;
            before := clock_timestamp() - greatest(floor, least(older_us, 3153600000000000) * interval '1 microsecond');
            WITH oldest AS (
                SELECT id, at FROM security_log ORDER BY id LIMIT least(greatest(rows_max, 0), 10000)
            ), deleted AS (
                DELETE FROM security_log s USING oldest o WHERE s.id = o.id AND o.at < before RETURNING s.id
            )
            SELECT count(*), min(id), max(id) INTO gone, first, last FROM deleted;
            IF gone > 0 THEN
                INSERT INTO security_log (at, tenant, actor, authentication, action, object, outcome, status, code,
                                          request_id, address)
                VALUES (clock_timestamp(), '', 'system', '', 'security.trim',
                        format('%%s rows from before %%s, ids %%s to %%s', gone,
                               to_char(before AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'), first, last),
                        'allowed', 0, 'trimmed', '', '');
            END IF;
            RETURN gone;
        END
        $body$
    $f$, current_schema());
    REVOKE ALL ON FUNCTION trim_security_log(bigint, int) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION trim_security_log(bigint, int) TO orchestrator_app;
END
$$;
