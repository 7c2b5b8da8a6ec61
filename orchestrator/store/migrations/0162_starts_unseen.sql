-- An operator's named act: processes may start for some hours although no place says what was published.
CREATE TABLE log_allowances (
    allowed_at  bigint NOT NULL,
    until       bigint NOT NULL,
    seen_number bigint NOT NULL,
    seen_size   bigint NOT NULL CHECK (seen_size > 0),
    seen_at     bigint NOT NULL,
    allowed_by  text   NOT NULL CHECK (allowed_by <> ''),
    reason      text   NOT NULL CHECK (reason <> ''),
    note        text   NOT NULL,
    CHECK (until > allowed_at),
    PRIMARY KEY (allowed_at, allowed_by)
);
COMMENT ON TABLE log_allowances IS 'append-only: starts without any place, who allowed them until when, and which checkpoint they had seen';
COMMENT ON COLUMN log_allowances.note IS 'the signed checkpoint that was the last one seen; whoever starts must still have its tree';
