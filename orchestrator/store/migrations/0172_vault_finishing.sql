-- What is left to do once a person's keys are destroyed is found again by any process, also after a crash.

ALTER TABLE vault_erasures ADD COLUMN told integer NOT NULL DEFAULT 0;
ALTER TABLE vault_erasures ADD COLUMN untold integer NOT NULL DEFAULT 0;
ALTER TABLE vault_erasures ADD COLUMN tries integer NOT NULL DEFAULT 0;
ALTER TABLE vault_erasures ADD COLUMN again_at timestamptz NOT NULL DEFAULT clock_timestamp();
ALTER TABLE vault_erasures ADD COLUMN finished_at timestamptz;
COMMENT ON COLUMN vault_erasures.told IS 'how many sagas have the record that says so; untold: how many could not yet';
COMMENT ON COLUMN vault_erasures.again_at IS 'from when on whoever comes may go on with it: later than now is a lease';

CREATE INDEX vault_erasures_unfinished ON vault_erasures (again_at) WHERE erased_at IS NOT NULL AND finished_at IS NULL;

ALTER TABLE vault_keys ADD COLUMN held_at timestamptz;
CREATE INDEX vault_keys_held ON vault_keys (tenant, held_at) WHERE held_for <> '';
