-- Every question to the audit trail that says what kind of record it wants (type, outcome, name of the saga, in any
-- combination), of whom or of which customer, is answered from short ranges of one index: the kinds that there are get
-- found by jumping from each to the next, and each kind's newest ones lie together. With one index a column, what few
-- records have in common was searched for among all that one column has. See docs/adr/0074-audit-by-kind.md.
DO $$
DECLARE
    slot text;
BEGIN
    FOREACH slot IN ARRAY ARRAY['a', 'b']
    LOOP
        -- A slot that is being built has none yet; it gets these from the slot that is live.
        CONTINUE WHEN to_regclass(format('audit_%s_by_type', slot)) IS NULL;
        EXECUTE format($f$
            DROP INDEX audit_%1$s_by_type, audit_%1$s_by_outcome, audit_%1$s_by_actor, audit_%1$s_by_customer;
            CREATE INDEX audit_%1$s_by_kind ON audit_%1$s (tenant, type, outcome, name, recorded_at, position);
            CREATE INDEX audit_%1$s_by_actor ON audit_%1$s (tenant, actor, type, outcome, name, recorded_at, position);
            CREATE INDEX audit_%1$s_by_customer ON audit_%1$s (tenant, customer, type, outcome, name, recorded_at, position)
                WHERE customer <> '';
            $f$, slot);
    END LOOP;
END
$$;
