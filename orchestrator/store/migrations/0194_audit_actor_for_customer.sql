-- An actor and a customer together: the index of what the actor did says for whom, so that rows are read only for the page
-- that is shown, and none for its count.
DO $$
DECLARE
    slot text;
BEGIN
    FOREACH slot IN ARRAY ARRAY['a', 'b']
    LOOP
        -- A slot that is being built has none yet; it gets this one from the slot that is live.
        CONTINUE WHEN to_regclass(format('audit_%s_by_actor', slot)) IS NULL;
        EXECUTE format($f$
            DROP INDEX audit_%1$s_by_actor;
            CREATE INDEX audit_%1$s_by_actor
                ON audit_%1$s (tenant, actor, type, outcome, name, recorded_at, position, customer);
            $f$, slot);
    END LOOP;
END
$$;
