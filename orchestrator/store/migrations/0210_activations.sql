-- Which version of a definition takes new sagas, where that is decided by people and not by deploying code (ADR 67).

CREATE TABLE activations (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name         text COLLATE "C" NOT NULL,
    version      integer NOT NULL, -- 0: a definition that came under approval with nothing that ran before it
    replaces     integer NOT NULL, -- 0: none
    how          text    NOT NULL CHECK (how IN ('baseline', 'approved')),
    saga_id      text    NOT NULL, -- whose records say who asked, who agreed, and what both saw; '' for a baseline
    batch        bigint  NOT NULL, -- a saga that began in a batch with a smaller number runs on the version before
    activated_at bigint  NOT NULL
);
CREATE INDEX activations_newest ON activations (name, id DESC);
CREATE UNIQUE INDEX activations_once ON activations (saga_id) WHERE saga_id <> '';
COMMENT ON TABLE activations IS 'append-only: every version that became the one for new sagas, the newest row counts';

CREATE TABLE definition_origins (
    name        text COLLATE "C" NOT NULL,
    version     integer NOT NULL,
    build       text    NOT NULL,
    deployed_by text    NOT NULL,
    PRIMARY KEY (name, version)
);
COMMENT ON TABLE definition_origins IS 'append-only: which build brought a definition first, and who deployed it, as far as the process knew';

CREATE TABLE definition_carriers (
    instance text   PRIMARY KEY,
    sagas    text[] NOT NULL, -- 'name/version' of all that is installed there
    seen_at  bigint NOT NULL
);
COMMENT ON TABLE definition_carriers IS 'mutable: which versions each running process has, as it said a moment ago';

-- The version that takes new sagas, by name. Whoever begins sagas calls this first in the transaction that does so and
-- shares the lock; whoever switches has it alone. So a switch waits for the batches that began before it, and all that
-- begin later see it. Two statements of a volatile function: the second one sees what was committed under the lock.
CREATE FUNCTION active_v1(alone boolean) RETURNS TABLE (name text, version integer) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF alone THEN
        PERFORM pg_advisory_xact_lock(23149, 0);
    ELSE
        PERFORM pg_advisory_xact_lock_shared(23149, 0);
    END IF;
    RETURN QUERY SELECT DISTINCT ON (a.name) a.name, a.version FROM activations a ORDER BY a.name, a.id DESC;
END
$$;
COMMENT ON FUNCTION active_v1 IS 'locks which versions take new sagas until the end of the transaction, and gives them';
