-- The Merkle tree over all records in their global order, and the checkpoints that sign it. See docs/adr/0055.
-- Leaf n is SHA-256(0x00 || body) of the record at global position n + 1.

-- Only full tiles are stored, so rows never change: tile (level, number) has the 256 hashes of tree level 8 * level from
-- number * 256 on. What is not yet a full tile is computed from the records, or from the roots of the tiles below.
CREATE TABLE log_tiles (
    level  smallint NOT NULL CHECK (level BETWEEN 0 AND 7),
    number bigint   NOT NULL CHECK (number >= 0),
    root   bytea    NOT NULL CHECK (octet_length(root) = 32),
    hashes bytea    NOT NULL CHECK (octet_length(hashes) = 8192),
    PRIMARY KEY (level, number)
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
COMMENT ON TABLE log_tiles IS 'append-only: the Merkle tree over all records, 256 hashes a row';
-- Hashes do not compress; outside the row, uncompressed, a slice of them is read without the rest.
ALTER TABLE log_tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;

CREATE TABLE log_checkpoints (
    number    bigint PRIMARY KEY CHECK (number > 0),
    size      bigint NOT NULL CHECK (size > 0),
    signed_at bigint NOT NULL,
    root      bytea  NOT NULL CHECK (octet_length(root) = 32),
    note      text   NOT NULL
);
COMMENT ON TABLE log_checkpoints IS 'append-only: signed statements of how large the log is and what its root is';
COMMENT ON COLUMN log_checkpoints.note IS 'the signed note (C2SP tlog-checkpoint); the other columns repeat what it says';
CREATE INDEX log_checkpoints_by_size ON log_checkpoints (size, number);

-- How publishing stands, for people; whoever verifies asks the place itself.
CREATE TABLE log_places (
    place        text   COLLATE "C" PRIMARY KEY,
    leased_until bigint NOT NULL DEFAULT 0,
    holder       text   NOT NULL DEFAULT '',
    number       bigint NOT NULL DEFAULT 0,
    size         bigint NOT NULL DEFAULT 0,
    published_at bigint NOT NULL DEFAULT 0,
    trouble      text   NOT NULL DEFAULT '',
    trouble_at   bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE log_places IS 'mutable: where checkpoints go, how far each place has come, what is wrong with it';

-- An operator's named act: this database goes on although a published checkpoint knows more, or something else.
CREATE TABLE log_breaks (
    accepted_at bigint NOT NULL,
    size        bigint NOT NULL,
    own_size    bigint NOT NULL,
    root        bytea  NOT NULL CHECK (octet_length(root) = 32),
    own_root    bytea  NOT NULL CHECK (octet_length(own_root) = 32),
    accepted_by text   NOT NULL CHECK (accepted_by <> ''),
    reason      text   NOT NULL CHECK (reason <> ''),
    note        text   NOT NULL,
    PRIMARY KEY (size, root)
);
COMMENT ON TABLE log_breaks IS 'append-only: published trees that this log does not continue, who accepted that, and why';
