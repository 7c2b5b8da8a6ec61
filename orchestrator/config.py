"""Every setting and every limit of a running process, read once from the environment.

Rules of this file
- A setting is an environment variable `ORCHESTRATOR_<NAME>`; each has a default that runs on a laptop, a range, and its
  unit in the name (`_ms`, `_bytes`, `_messages`, `_rows`, `_max`).
- A bad value stops the start with SettingsError: the variable, what it is, what it may be. Nothing is guessed.
- Reaching a limit while running is a named error, a dead letter or a metric, never a slow death.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import SettingsConfigDict

from orchestrator.activation.settings import ActivationSettings
from orchestrator.broker.settings import BrokerSettings, KafkaSecurity
from orchestrator.evidence.pack.settings import PackSettings
from orchestrator.evidence.settings import EvidenceSettings
from orchestrator.identity.settings import IdentitySettings
from orchestrator.metrics.settings import MetricsSettings
from orchestrator.notices.settings import NoticeSettings
from orchestrator.setting import number
from orchestrator.tracing.limits import TraceSettings
from orchestrator.tracing.settings import TelemetrySettingsError, telemetry_settings

PREFIX = "ORCHESTRATOR_"
OWN_LOG = "postgres://"  # as broker URL: the log lies in the database of the store

# notices: where a channel is configured; traces: where OTEL_EXPORTER_OTLP_ENDPOINT names a collector
ROLES = ("coordinator", "relay", "timers", "api", "participants", "projections", "notices", "traces")

FOUR_EYES = frozenset({"done", "value", "skip", "erase"})
_SECRET = ("password", "secret", "token")  # in a setting's name: its value is never shown


class SettingsError(ValueError):
    """A setting is wrong or missing. The text has one line per mistake: variable, value, what it may be."""


class Settings(
    IdentitySettings, EvidenceSettings, PackSettings, NoticeSettings, TraceSettings, MetricsSettings, ActivationSettings
):
    """All settings. Read with `load_settings`, which names variables instead of fields when something is wrong."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", validate_default=True)

    # --- what runs, and against what ---
    database_url: str = Field(
        default="", description="PostgreSQL as the application's role. Empty: an embedded server in data_dir."
    )
    migrate_url: str = Field(
        default="", description="The same database as the owner of its tables; used by migrations alone."
    )
    broker_url: str = Field(
        default=OWN_LOG, description="kafka://host:port[,host:port], postgresql://..., or postgres:// for database_url."
    )
    sagas: str = Field(default="sagas", description="Modules to look for sagas and participants in, comma-separated.")
    roles: str = Field(default=",".join(ROLES), description=f"Which of {', '.join(ROLES)} run in this process.")
    tenant: str = Field(default="main", description="The tenant of messages that name none.")
    other_tenants: str = Field(default="", description="Further tenants whose messages are taken, comma-separated.")
    data_dir: Path = Field(default=Path(".data"), description="Where the embedded database keeps its files.")
    consumer_group: str = Field(default="orchestrator", description="The group in which coordinators share the work.")
    instance_id: str = Field(
        default="",
        description="A stable name of this process, unique among those that run; a pod's, for example. Empty: one that "
        "is kept in data_dir, where files can be written there.",
    )

    vault_key_file: str = Field(
        default="",
        description="The file of keys that wrap those of persons; with it personal fields are sealed. Keep it outside "
        "data_dir and its backups. Empty: personal fields are stored as they come.",
    )
    key_service_url: str = Field(
        default="",
        description="For processes with the role participants alone: the HTTP API of the product, which lends them the "
        "keys of the sagas whose commands they get. In place of vault_key_file.",
    )
    key_service_token: str = Field(
        default="", description="The API key shown there, made with --action key.lend:PARTICIPANT."
    )

    # --- HTTP ---
    api_host: str = Field(default="127.0.0.1", description="Address of the HTTP API; loopback unless set.")
    api_port: Annotated[int, number(8080, 0, 65_535, "Port of the HTTP API; 0 takes a free one.")]
    trace_url: str = Field(
        default="",
        description="Where people look at a trace; {trace_id} stands for its id: http://localhost:16686/trace/{trace_id}",
    )

    # --- pages ---
    confirm_amount: Annotated[
        int, number(0, 0, 10**15, "Decisions on this amount or more, of any currency, are confirmed. 0: only pivots.")
    ]

    # --- the door for starts over HTTP: beyond these they are refused with 429, until it is less ---
    admit_requests_max: Annotated[int, number(100, 0, 10_000, "Starts under way in this process. 0: no limit.")]
    admit_acts_max: Annotated[
        int, number(1_000, 0, 100_000, "Acts that wait for a transaction; people's may still come. 0: no limit.")
    ]
    admit_unsent_rows_max: Annotated[
        int, number(5_000, 0, 1_000_000, "Committed messages that are not on the broker yet. 0: no limit.")
    ]
    admit_commands_max: Annotated[
        int, number(10_000, 0, 10_000_000, "Commands that participants have not answered yet. 0: no limit.")
    ]
    admit_live_sagas_max: Annotated[
        int, number(0, 0, 10_000_000, "Sagas that have not ended, those waiting for people too. 0: no limit.")
    ]
    admit_intake_behind_ms: Annotated[
        int, number(5_000, 0, 600_000, "Intake further behind the database's clock than this. 0: no limit.")
    ]
    admit_sample_ms: Annotated[int, number(250, 20, 60_000, "How often the load of all processes is looked at.")]

    # --- intake: from the broker into the store ---
    intake_batch_messages: Annotated[int, number(500, 1, 10_000, "Messages in one transaction at most.")]
    intake_wait_ms: Annotated[int, number(50, 1, 1_000, "How long a fetch waits for a first message.")]
    intake_lanes: Annotated[int, number(2, 1, 16, "Batches that one process has under way side by side.")]
    intake_heartbeat_ms: Annotated[
        int,
        number(200, 20, 5_000, "How often idle partitions store how far in time they are read; timers wait for it."),
    ]
    intake_health_ms: Annotated[
        int, number(5_000, 500, 600_000, "Intake further behind than this is reported unhealthy; timers wait.")
    ]
    message_bytes_max: Annotated[int, number(1_048_576, 1_024, 104_857_600, "The largest message, framing included.")]
    headers_max: Annotated[int, number(64, 16, 1_024, "Headers of one message; more make it a dead letter.")]

    # --- coordinator ---
    four_eyes_acts: str = Field(
        default="done,value,skip,erase",
        description="Acts that one person proposes and another confirms: done, value, skip, erase; with commas. "
        "Empty: one person is enough. An unknown outcome always takes two.",
    )
    turn_records_max: Annotated[int, number(200, 10, 10_000, "Records that one input may lead to in one transaction.")]
    cache_sagas_max: Annotated[int, number(50_000, 0, 5_000_000, "States kept in memory; others are folded anew.")]
    conflict_retries_max: Annotated[int, number(10, 1, 1_000, "How often a batch is decided again after conflicts.")]
    submit_wait_ms: Annotated[
        int, number(1, 0, 100, "How long an HTTP act waits for company while others are committed.")
    ]
    submit_acts_max: Annotated[int, number(200, 1, 10_000, "HTTP acts in one transaction at most.")]
    submit_waiting_max: Annotated[int, number(2_000, 1, 100_000, "HTTP acts that may wait; more are refused (503).")]
    saga_batch_inputs_max: Annotated[
        int, number(200, 1, 10_000, "Early events that one saga takes in one transaction.")
    ]

    # --- relay: from the outbox to the broker ---
    outbox_batch_rows: Annotated[int, number(500, 1, 10_000, "Messages handed to the broker at once.")]
    outbox_sweep_ms: Annotated[int, number(1_000, 20, 60_000, "How often rows that nobody sent are looked for.")]
    outbox_poll_ms: Annotated[int, number(20, 1, 5_000, "How often a process that only relays looks for rows.")]
    outbox_mark_ms: Annotated[int, number(25, 1, 5_000, "How long sent rows wait to be marked together.")]
    outbox_retry_ms: Annotated[int, number(200, 1, 60_000, "Pause after the broker refused to take messages for now.")]
    outbox_memory_rows_max: Annotated[
        int, number(20_000, 100, 1_000_000, "Committed rows waiting in memory; beyond it they go by way of the table.")
    ]
    outbox_backlog_rows_max: Annotated[
        int, number(10_000, 100, 1_000_000, "Rows waiting in memory at which intake pauses.")
    ]

    # --- timers and the reconciler ---
    timer_poll_ms: Annotated[int, number(100, 10, 200, "How often due timers are looked for.")]
    timer_batch_rows: Annotated[int, number(500, 1, 10_000, "Timers in one transaction at most.")]
    reconcile_poll_ms: Annotated[int, number(200, 10, 10_000, "How often due resumes and early checks are looked for.")]
    reconcile_batch_rows: Annotated[int, number(500, 1, 10_000, "Resumes or checks in one transaction at most.")]
    reconcile_report_ms: Annotated[
        int, number(10_000, 100, 3_600_000, "How often orphans are counted and old rows go.")
    ]
    early_age_ms: Annotated[
        int, number(604_800_000, 1_000, 31_536_000_000, "How long an event that nobody waits for is kept.")
    ]
    early_events_max_per_key: Annotated[
        int, number(100, 1, 10_000, "Early events kept for one key; more are dead letters.")
    ]
    trim_ms: Annotated[int, number(5_000, 50, 3_600_000, "Pause between two passes that delete old rows.")]
    trim_blocks: Annotated[int, number(2_048, 1, 1_000_000, "Blocks (8 KiB) of each table that one pass looks at.")]
    inbox_keep_ms: Annotated[
        int,
        number(2_592_000_000, 60_000, 315_360_000_000, "How long messages are known again; not less than topics."),
    ]
    security_log_keep_ms: Annotated[
        int,
        number(
            63_072_000_000, 86_400_000, 3_153_600_000_000,
            "How long the security log is kept; never less than the table `retention` of the database says.",
        ),
    ]  # fmt: skip
    outbox_keep_ms: Annotated[int, number(604_800_000, 1, 31_536_000_000, "How long sent rows are kept to send again.")]

    # --- read models ---
    records_topic: str = Field(
        default="",
        description="Topic that every record goes to, for live figures and whoever follows. It holds all that records "
        "hold. Empty: none.",
    )
    projection_records_max: Annotated[int, number(1_000, 1, 20_000, "Records in one transaction of a read model.")]
    projection_poll_ms: Annotated[int, number(200, 10, 60_000, "How often an idle read model looks for records.")]
    projection_percent_max: Annotated[
        int,
        number(20, 1, 100, "How much of its time a read model may work in a process that also decides; lagging."),
    ]

    relay_shard: Annotated[int, number(0, 0, 1_023, "Which part of the sagas this process looks for in the outbox.")]
    relay_shards: Annotated[int, number(1, 1, 1_024, "In how many parts processes that only relay share the outbox.")]

    # --- the database's pools ---
    pool_coordinator_max: Annotated[int, number(8, 1, 200, "Connections for batches.")]
    pool_relay_max: Annotated[int, number(3, 1, 100, "Connections for the relay, timers and the reconciler.")]
    pool_query_max: Annotated[int, number(4, 1, 200, "Connections for reading pages and lists.")]
    pool_participants_max: Annotated[int, number(6, 1, 200, "Connections for the participants of this process.")]
    pool_wait_ms: Annotated[int, number(5_000, 10, 600_000, "How long a connection is waited for.")]
    statement_timeout_ms: Annotated[int, number(15_000, 100, 600_000, "How long one statement may take.")]
    lock_timeout_ms: Annotated[int, number(5_000, 100, 600_000, "How long one statement may wait for a lock.")]
    idle_transaction_ms: Annotated[
        int, number(5_000, 100, 600_000, "A transaction whose process sleeps longer is ended by the database.")
    ]
    prepared_statements: bool = Field(
        default=True, description="False behind a PgBouncer that pools transactions without prepared statements."
    )

    # --- topics ---
    topic_partitions: Annotated[int, number(8, 1, 1_000, "Partitions of a topic that is made; never change it later.")]
    topic_retention_ms: Annotated[int, number(604_800_000, 60_000, 31_536_000_000, "How long topics keep messages.")]
    topic_create: bool = Field(default=True, description="Make missing topics at the start; else only check them.")
    kafka_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_ca_file: str = ""
    kafka_cert_file: str = ""
    kafka_key_file: str = ""
    kafka_mechanism: str = "SCRAM-SHA-512"
    kafka_username: str = ""
    kafka_password: str = Field(default="", repr=False)

    # --- life of the process ---
    start_wait_ms: Annotated[
        int,
        number(60_000, 0, 86_400_000, "How long a process that starts waits for a database or broker that is away."),
    ]
    stop_ms_max: Annotated[int, number(15_000, 100, 600_000, "How long a graceful stop may take before tasks are cut.")]
    stall_ms_max: Annotated[int, number(5_000, 100, 600_000, "A loop without progress for so long is not ready.")]
    stall_exit_ms: Annotated[
        int, number(120_000, 0, 3_600_000, "A loop that is not heard of for so long ends the process; 0: never.")
    ]
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("tenant", "consumer_group")
    @classmethod
    def _named(cls, value: str) -> str:
        if not value or not value.isprintable() or any(sign in value for sign in " ,\t"):
            raise ValueError("must be one word without commas")
        return value

    @field_validator("database_url", "migrate_url")
    @classmethod
    def _is_postgres(cls, value: str) -> str:
        if value and urlsplit(value).scheme not in ("postgres", "postgresql"):
            raise ValueError("must begin with postgresql://")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:  # noqa: N804 - in "after" mode pydantic passes the instance
        unknown = [role for role in self.role_names if role not in ROLES]
        if unknown or not self.role_names:
            raise ValueError(f"{PREFIX}ROLES has {unknown or 'nothing'}; it may have {', '.join(ROLES)}")
        if strange := self.acts_of_two_people - FOUR_EYES:
            raise ValueError(
                f"{PREFIX}FOUR_EYES_ACTS has {sorted(strange)}; it may have {', '.join(sorted(FOUR_EYES))}"
            )
        if not self.saga_modules:
            raise ValueError(f"{PREFIX}SAGAS is empty; name at least one module, for example sagas")
        if self.outbox_backlog_rows_max > self.outbox_memory_rows_max:
            raise ValueError(
                f"{PREFIX}OUTBOX_BACKLOG_ROWS_MAX ({self.outbox_backlog_rows_max}) must not be more than "
                f"{PREFIX}OUTBOX_MEMORY_ROWS_MAX ({self.outbox_memory_rows_max}): intake would never pause"
            )
        if self.inbox_keep_ms < self.topic_retention_ms:
            raise ValueError(
                f"{PREFIX}INBOX_KEEP_MS ({self.inbox_keep_ms}) must not be less than {PREFIX}TOPIC_RETENTION_MS "
                f"({self.topic_retention_ms}): a message read again after that would be taken for a new one"
            )
        if self.admit_acts_max >= self.submit_waiting_max:
            raise ValueError(
                f"{PREFIX}ADMIT_ACTS_MAX ({self.admit_acts_max}) must be less than {PREFIX}SUBMIT_WAITING_MAX "
                f"({self.submit_waiting_max}): people's acts need room when starts are refused"
            )
        if self.relay_shard >= self.relay_shards:
            raise ValueError(
                f"{PREFIX}RELAY_SHARD ({self.relay_shard}) must be less than {PREFIX}RELAY_SHARDS ({self.relay_shards})"
            )
        if self.pool_coordinator_max < self.intake_lanes + 1:
            raise ValueError(
                f"{PREFIX}POOL_COORDINATOR_MAX ({self.pool_coordinator_max}) must be more than "
                f"{PREFIX}INTAKE_LANES ({self.intake_lanes}): a person's act must not wait behind intake"
            )
        return self

    @property
    def role_names(self) -> frozenset[str]:
        """The roles of this process."""
        return frozenset(_words(self.roles))

    @property
    def saga_modules(self) -> tuple[str, ...]:
        """The modules in which sagas and participants are looked for."""
        return _words(self.sagas)

    @property
    def tenants(self) -> frozenset[str]:
        """The tenants whose messages are taken."""
        return frozenset((self.tenant, *_words(self.other_tenants)))

    @property
    def acts_of_two_people(self) -> frozenset[str]:
        """Operators' acts that need a second person."""
        return frozenset(_words(self.four_eyes_acts))

    def resolved_broker_url(self, database_url: str) -> str:
        """The broker's URL, where `postgres://` means the log in `database_url`."""
        return database_url if self.broker_url in ("", OWN_LOG, "postgresql://") else self.broker_url

    def broker_settings(self) -> BrokerSettings:
        """What the broker layer needs of these settings."""
        defaults = BrokerSettings()
        return BrokerSettings(
            message_bytes_max=self.message_bytes_max,
            send_batch_bytes=min(defaults.send_batch_bytes, self.message_bytes_max),
            partitions_default=self.topic_partitions,
            retention_ms_default=self.topic_retention_ms,
            instance_id=self.instance_id or None,
            postgres_prepared_statements=self.prepared_statements,
            kafka_security=KafkaSecurity(
                protocol=self.kafka_protocol,
                ca_file=self.kafka_ca_file or None,
                cert_file=self.kafka_cert_file or None,
                key_file=self.kafka_key_file or None,
                mechanism=self.kafka_mechanism,
                username=self.kafka_username or None,
                password=self.kafka_password or None,
            ),
        )


def load_settings(**given: Any) -> Settings:
    """The settings of this process: environment first, `given` over it (for the command line and tests).

    Raises SettingsError with one line per mistake, and for a variable that looks like a misspelt setting.
    """
    misspelt = unknown_variables(os.environ)
    if misspelt:
        raise SettingsError("\n".join(f"{name}: {hint}" for name, hint in misspelt.items()))
    try:
        telemetry_settings()
    except TelemetrySettingsError as error:
        raise SettingsError(str(error)) from error
    try:
        return Settings(**given)
    except ValidationError as error:
        raise SettingsError("\n".join(_sentence(item) for item in error.errors(include_url=False))) from error


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables that are nearly, but not quite, a setting, with the setting that was probably meant.

    A variable with the prefix that resembles no setting is left alone: other tools may use the prefix too.
    """
    known = [f"{PREFIX}{name.upper()}" for name in Settings.model_fields]
    found = {}
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            nearest = difflib.get_close_matches(name.upper(), known, 1, 0.9)
            if nearest:
                found[name] = f"there is no such setting; did you mean {nearest[0]}?"
    return found


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for part in text.split(",") if (word := part.strip()))


def _sentence(item: Any) -> str:
    field = str(item["loc"][0]) if item["loc"] else ""
    text = str(item["msg"]).removeprefix("Value error, ")
    if field not in Settings.model_fields:
        return text if not field else f"{PREFIX}{field.upper()}: {text}"
    # A URL or a password is never shown: it may hold a secret.
    shown = "" if field.endswith("_url") or any(word in field for word in _SECRET) else f" is {item['input']!r}:"
    description = Settings.model_fields[field].description or ""
    return f"{PREFIX}{field.upper()}{shown} {text[:1].lower()}{text[1:]}. {description}".rstrip()
