-- How many open tasks are over their time is counted from the index alone: when a hundred thousand are, reading their rows
-- takes longer than a page should.
DO $$
DECLARE
    slot text;
BEGIN
    FOREACH slot IN ARRAY ARRAY['a', 'b']
    LOOP
        -- A slot that is being built has none yet; it gets this one from the slot that is live.
        CONTINUE WHEN to_regclass(format('approvals_%s_now', slot)) IS NULL;
        EXECUTE format($f$
            DROP INDEX approvals_%1$s_now;
            CREATE INDEX approvals_%1$s_now ON approvals_%1$s (tenant, due, saga_id, activity) INCLUDE (expires, name)
                WHERE state = 'open' AND valid_to = 9223372036854775807;
            $f$, slot);
    END LOOP;
END
$$;
