-- A slot is filled without the indexes that only readers need, and gets them before it is compared and swapped in: made at
-- once from sorted rows they cost a quarter of what they cost row by row. See docs/adr/0063-rebuilt-bare.md.
--
-- The slot that is live says which indexes there are. An index that the projection itself looks rows up in stays; the
-- comment of such an index begins with 'needed: '. Primary keys stay too.

DO $$
DECLARE
    slot text;
BEGIN
    FOREACH slot IN ARRAY ARRAY['a', 'b']
    LOOP
        EXECUTE format('COMMENT ON INDEX approval_votes_%s_by_task IS %L', slot,
                       'needed: votes are made void, and found again, by their task');
    END LOOP;

    EXECUTE format($f$
        CREATE FUNCTION projection_tables(wanted text) RETURNS text[]
        LANGUAGE sql STABLE SET search_path = %1$I, pg_temp AS $body$
            SELECT CASE wanted
                WHEN 'audit' THEN ARRAY['audit']
                WHEN 'approvals' THEN ARRAY['approvals', 'approval_votes']
                WHEN 'journeys' THEN ARRAY['journeys', 'journey_spans', 'journey_levels']
            END
        $body$;

        -- Holds the row of a slot that is not live, or refuses.
        CREATE FUNCTION projection_spare(wanted text, which text) RETURNS void
        LANGUAGE plpgsql SET search_path = %1$I, pg_temp AS $body$
        BEGIN
            PERFORM FROM projection_slots WHERE projection = wanted AND slot = which AND NOT live FOR UPDATE;
            IF NOT FOUND OR projection_tables(wanted) IS NULL THEN
                RAISE EXCEPTION 'projection %% has no slot %% that may be emptied', wanted, which;
            END IF;
        END
        $body$;

        -- The indexes of a table that only readers need, under the names and definitions of either slot.
        CREATE FUNCTION projection_indexes(table_name text) RETURNS TABLE (name text, definition text)
        LANGUAGE sql STABLE SET search_path = %1$I, pg_temp AS $body$
            SELECT c.relname::text, replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ')
            FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
            WHERE i.indrelid = to_regclass(quote_ident(table_name)) AND NOT i.indisunique
              AND coalesce(obj_description(i.indexrelid, 'pg_class'), '') NOT LIKE 'needed:%%'
        $body$;

        CREATE OR REPLACE FUNCTION projection_clear(wanted text, which text) RETURNS void
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = %1$I, pg_temp AS $body$
        DECLARE
            base  text;
            index text;
        BEGIN
            PERFORM projection_spare(wanted, which);
            FOREACH base IN ARRAY projection_tables(wanted)
            LOOP
                EXECUTE format('TRUNCATE %%I', base || '_' || which);
                FOR index IN SELECT name FROM projection_indexes(base || '_' || which)
                LOOP
                    EXECUTE format('DROP INDEX %%I', index);
                END LOOP;
            END LOOP;
            UPDATE projection_slots
            SET position = 0, records = 0, checksum = '', read_until = 0, stopped = '', stopped_position = 0
            WHERE projection = wanted AND slot = which;
        END
        $body$;

        CREATE FUNCTION projection_index(wanted text, which text) RETURNS integer
        LANGUAGE plpgsql SECURITY DEFINER SET search_path = %1$I, pg_temp SET maintenance_work_mem = '256MB' AS $body$
        DECLARE
            live  constant text := CASE which WHEN 'a' THEN 'b' ELSE 'a' END;
            base  text;
            index record;
            made  integer := 0;
        BEGIN
            PERFORM projection_spare(wanted, which);
            FOREACH base IN ARRAY projection_tables(wanted)
            LOOP
                FOR index IN
                    SELECT replace(name, base || '_' || live, base || '_' || which) AS name,
                           replace(definition, base || '_' || live, base || '_' || which) AS definition
                    FROM projection_indexes(base || '_' || live)
                LOOP
                    IF to_regclass(quote_ident(index.name)) IS NULL THEN
                        EXECUTE index.definition;
                        made := made + 1;
                    END IF;
                END LOOP;
            END LOOP;
            IF made > 0 THEN  -- nobody has looked at these tables yet, and readers come as soon as they are swapped in
                FOREACH base IN ARRAY projection_tables(wanted)
                LOOP
                    EXECUTE format('ANALYZE %%I', base || '_' || which);
                END LOOP;
            END IF;
            RETURN made;
        END
        $body$;
        $f$, current_schema());

    REVOKE ALL ON FUNCTION projection_tables(text), projection_spare(text, text), projection_indexes(text),
        projection_index(text, text), projection_clear(text, text) FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION projection_clear(text, text), projection_index(text, text) TO orchestrator_app;
END
$$;
COMMENT ON FUNCTION projection_clear(text, text) IS 'empties a slot that is not live and takes its readers'' indexes off';
COMMENT ON FUNCTION projection_index(text, text) IS 'gives a slot that is not live the indexes that the live one has; how many';
