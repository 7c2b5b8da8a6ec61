"""Every limit and time of the broker layer, with its unit in the name.

Plain data: reading environment variables is ``orchestrator.config``'s business. A value out of range is refused where
the settings are made, naming the setting, what it is and what it may be.
"""

from dataclasses import dataclass, field, fields


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """How to prove who we are to Kafka. The default is a plain connection, for a loopback broker only.

    protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL. ca_file, cert_file, key_file: PEM paths for TLS; without
    ca_file the system's authorities count. mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.
    """

    protocol: str = "PLAINTEXT"
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    mechanism: str = "SCRAM-SHA-512"
    username: str | None = None
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """Limits and times of producers and consumers. Durations are milliseconds unless the name says otherwise.

    message_bytes_max: the largest message, framing included; both brokers refuse more, before sending.
    send_batch_bytes: how much goes to one partition in one request; a larger single message goes alone.
    send_linger_ms: how long an append waits for more messages to share its transaction or request; 0 sends at once.
    send_timeout_ms: after this an unanswered message is reported as ``timeout``, outcome unknown.
    fetch_bytes_max: how much one fetch may bring from the broker; at least one message always comes.
    partitions_default: for topics that do not say; fixed for a topic's life.
    retention_ms_default: how long messages are kept at least, for topics that do not say.
    session_timeout_ms, heartbeat_ms: a Kafka member that is silent for so long is dead; how often it says hello.
    poll_interval_ms_max: a Kafka member whose ``fetch`` was not called for so long leaves the group.
    instance_id: a stable name of this process within its groups. With one, a restart takes its old place back at once
    instead of waiting for the session time-out; two processes with the same one fence each other.
    """

    message_bytes_max: int = 1_048_576
    send_batch_bytes: int = 262_144
    send_linger_ms: int = 0
    send_timeout_ms: int = 30_000
    fetch_bytes_max: int = 8_388_608
    partitions_default: int = 8
    retention_ms_default: int = 7 * 24 * 3_600_000
    session_timeout_ms: int = 45_000
    heartbeat_ms: int = 3_000
    poll_interval_ms_max: int = 300_000
    connect_timeout_ms: int = 10_000
    stop_timeout_ms: int = 5_000
    instance_id: str | None = None
    client_id: str = "saga-orchestrator"

    # Kafka alone
    kafka_security: KafkaSecurity = KafkaSecurity()
    kafka_replication: int = -1
    """Replicas of a topic we create; -1 leaves it to the cluster's default."""
    kafka_fetch_wait_ms: int = 100
    """How long Kafka may hold an empty fetch. A partition that the fetch under way left out waits as long."""

    # The log in PostgreSQL alone
    postgres_lease_ms: int = 10_000
    """A member that is silent for so long is dead and its partitions go to others; shorter than Kafka's, since one
    table is asked and not a cluster."""
    postgres_heartbeat_ms: int = 1_000
    postgres_poll_busy_ms: int = 2
    """Pause before looking again right after messages came; grows up to ``postgres_poll_idle_ms`` while none come."""
    postgres_poll_idle_ms: int = 100
    postgres_hint_interval_ms: int = 2
    """At most one wake-up hint per process in this time; polling is what counts."""
    postgres_connections_max: int = 6
    postgres_statement_timeout_ms: int = 10_000
    postgres_lock_timeout_ms: int = 5_000
    postgres_prepared_statements: bool = True
    """False behind a PgBouncer that pools transactions without prepared statements."""
    postgres_trim_interval_ms: int = 60_000
    postgres_trim_rows_max: int = 20_000
    """Old messages deleted per partition and pass."""
    postgres_unread_retention_times: int = 4
    """Messages that some group has not read are kept this many times their retention. Then they go, as in Kafka: a
    group that never comes back shall not fill the disk. A reader that is so late gets a PositionLostError."""

    def __post_init__(self) -> None:
        """Refuse values that could not work. Raises ValueError naming the setting."""
        may_be_zero = {"send_linger_ms", "kafka_replication", "postgres_poll_busy_ms", "postgres_hint_interval_ms"}
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "kafka_replication":
                continue
            if type(value) is int and value < (0 if item.name in may_be_zero else 1):
                raise ValueError(f"broker setting {item.name} is {value}; it must be a positive whole number")
        if self.send_batch_bytes > self.message_bytes_max:
            raise ValueError(
                f"broker setting send_batch_bytes is {self.send_batch_bytes}, more than message_bytes_max = "
                f"{self.message_bytes_max}: Kafka limits batches by the same number, so such a batch would be refused"
            )
        for beat, limit in (("heartbeat_ms", "session_timeout_ms"), ("postgres_heartbeat_ms", "postgres_lease_ms")):
            if getattr(self, beat) * 3 > getattr(self, limit):
                raise ValueError(
                    f"broker setting {beat} is {getattr(self, beat)} and {limit} is {getattr(self, limit)}: "
                    "a member must be able to miss two beats, so the first may be at most a third of the second"
                )
