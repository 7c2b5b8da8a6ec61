-- Whose turn it is to send the record feed to its topic, so that nobody holds a row while a broker is waited for
-- (docs/adr/0077-the-record-feed-is-sent-under-a-lease.md). Read models hold their row instead, and leave this alone.
ALTER TABLE projection_slots
    ADD COLUMN held_until bigint NOT NULL DEFAULT 0,
    ADD COLUMN holder     text   NOT NULL DEFAULT '';
