-- A person who is under a legal hold is not erased while it lasts.

ALTER TABLE vault_keys ADD COLUMN held_for text NOT NULL DEFAULT '';
ALTER TABLE vault_keys ADD COLUMN held_by text NOT NULL DEFAULT '';
