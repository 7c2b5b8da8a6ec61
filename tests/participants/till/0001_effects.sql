-- Effects of the participant under test, countable by key.
CREATE TABLE effects (
    number bigint GENERATED ALWAYS AS IDENTITY,
    kind   text NOT NULL,
    key    text NOT NULL,
    amount integer NOT NULL
);
COMMENT ON TABLE effects IS 'append-only: what was done';
