-- Which accepted breaks are still to be declared was told by the clock: after it had been ahead, a break was signed only
-- when it had caught up. Numbers of checkpoints only go forward.
ALTER TABLE log_breaks ADD COLUMN own_number bigint CHECK (own_number >= 0);
COMMENT ON COLUMN log_breaks.own_number IS 'this log''s last checkpoint when the break was accepted; the next one declares it';
-- What no checkpoint has declared yet is declared by the next one.
UPDATE log_breaks b
SET own_number = CASE
    WHEN EXISTS (
        SELECT FROM log_checkpoints
        WHERE strpos(note, E'\nbreak ' || b.size || ' ' || encode(b.root, 'base64') || E'\n') > 0
    ) THEN 0
    ELSE coalesce((SELECT max(number) FROM log_checkpoints), 0)
END;
ALTER TABLE log_breaks ALTER COLUMN own_number SET NOT NULL;
