-- Notices (orchestrator/notices): who is told what, on which channel, and what became of it.

CREATE TABLE notice_position (
    reader   text   PRIMARY KEY,
    position bigint NOT NULL
);
COMMENT ON TABLE notice_position IS 'mutable: up to which global position records were looked at for notices';

CREATE TABLE notice_contacts (
    quiet_from smallint NOT NULL CHECK (quiet_from BETWEEN 0 AND 1439),
    quiet_to   smallint NOT NULL CHECK (quiet_to BETWEEN 0 AND 1439),
    digest_at  smallint NOT NULL CHECK (digest_at BETWEEN 0 AND 1439),
    updated_at bigint   NOT NULL,
    tenant     text COLLATE "C" NOT NULL,
    who        text COLLATE "C" NOT NULL,
    channel    text COLLATE "C" NOT NULL CHECK (channel IN ('mail', 'webhook')),
    address    text NOT NULL,
    language   text NOT NULL,
    zone       text NOT NULL,
    delivery   text NOT NULL CHECK (delivery IN ('at_once', 'digest', 'escalations')),
    updated_by text NOT NULL,
    PRIMARY KEY (tenant, who, channel)
);
COMMENT ON TABLE notice_contacts IS 'mutable: where and how people and groups want to be told; person:maria or role:manager';
COMMENT ON COLUMN notice_contacts.quiet_from IS 'minutes of the day in zone; no quiet hours where it is quiet_to';
COMMENT ON COLUMN notice_contacts.address IS 'empty: that which everybody has by the settings';

CREATE TABLE notice_outbox (
    id            bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    planned_at    bigint  NOT NULL,
    due           bigint  NOT NULL,
    claimed_until bigint  NOT NULL DEFAULT 0,
    closed_at     bigint,
    task_due      bigint  NOT NULL,
    version       integer NOT NULL,
    attempts      integer NOT NULL DEFAULT 0,
    state         text COLLATE "C" NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'skipped', 'failed')),
    tenant        text COLLATE "C" NOT NULL,
    saga_id       text COLLATE "C" NOT NULL,
    activity      text COLLATE "C" NOT NULL,
    kind          text COLLATE "C" NOT NULL,
    who           text COLLATE "C" NOT NULL,
    channel       text COLLATE "C" NOT NULL,
    digest        text COLLATE "C" NOT NULL,
    address       text    NOT NULL,
    language      text    NOT NULL,
    zone          text    NOT NULL,
    reason        text    NOT NULL DEFAULT '',
    facts         bytea   NOT NULL,
    UNIQUE (saga_id, version, who, channel)
) WITH (autovacuum_vacuum_scale_factor = 0.05);
COMMENT ON TABLE notice_outbox IS 'mutable: notices to be sent, and for a while those that were; trimmed by age';
COMMENT ON COLUMN notice_outbox.digest IS 'rows of the same text go out as one notice; empty for those that go alone';
COMMENT ON COLUMN notice_outbox.reason IS 'why it was skipped or failed, or why the last attempt did';
CREATE INDEX notice_outbox_due ON notice_outbox (due, id) WHERE state = 'waiting';
CREATE INDEX notice_outbox_digest ON notice_outbox (digest) WHERE state = 'waiting' AND digest <> '';
CREATE INDEX notice_outbox_by_state ON notice_outbox (tenant, state, id);
CREATE INDEX notice_outbox_closed ON notice_outbox (closed_at) WHERE closed_at IS NOT NULL;

ALTER TABLE notice_contacts ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notice_contacts
    USING (coalesce((SELECT current_setting('orchestrator.tenant', true)), '') IN ('', tenant));
ALTER TABLE notice_outbox ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON notice_outbox
    USING (coalesce((SELECT current_setting('orchestrator.tenant', true)), '') IN ('', tenant));
