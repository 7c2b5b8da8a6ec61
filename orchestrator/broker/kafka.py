"""Kafka as a ``Broker``: opens connections, makes topics or checks them.

The driver's defaults lose data (automatic commits, reading from the end, one acknowledging replica); every setting that
matters is therefore written out here, in ``consumer_options`` and ``producer_options``, and pinned by a test.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.helpers import create_ssl_context

from orchestrator.broker.contract import (
    BrokerSetupError,
    BrokerUnavailableError,
    Looked,
    PositionSource,
    TopicSpec,
    Wanted,
)
from orchestrator.broker.kafka_consumer import KafkaConsumer
from orchestrator.broker.kafka_look import look
from orchestrator.broker.kafka_producer import KafkaProducer
from orchestrator.broker.kafka_records import install
from orchestrator.broker.partition import partition_of
from orchestrator.broker.settings import BrokerSettings

logger = logging.getLogger(__name__)

_UNKNOWN_TOPIC, _ALREADY_EXISTS = 3, 36  # error codes of Kafka's protocol
_BATCH_SLACK_BYTES = 12  # Kafka's own default limit is 1 MiB + 12: a batch of v2 with its length field
_APPEND_TIME = "LogAppendTime"


def connect(url: str, settings: BrokerSettings) -> "KafkaBroker":
    """The broker behind ``kafka://host:port[,host:port]``. Raises BrokerSetupError for a URL of another shape."""
    servers = url.removeprefix("kafka://").rstrip("/")
    if not servers or any(sign in servers for sign in "/@?"):
        raise BrokerSetupError(
            "the broker URL must be kafka://host:port[,host:port] and nothing more; user, password and certificates "
            "are settings (KafkaSecurity)"
        )
    install()
    hosts = [server if ":" in server else f"{server}:9092" for server in servers.split(",")]
    return KafkaBroker(hosts, settings)


class KafkaBroker:
    """A ``Broker`` on Kafka."""

    def __init__(self, servers: Sequence[str], settings: BrokerSettings) -> None:
        """``servers``: ``host:port`` of at least one broker of the cluster."""
        self._servers = list(servers)
        self._settings = settings
        self._producers: list[KafkaProducer] = []
        self._consumers: list[KafkaConsumer] = []

    def producer(self, name: str) -> KafkaProducer:
        """See ``Broker``."""
        producer = KafkaProducer(lambda: AIOKafkaProducer(**self.producer_options(name)), self._settings)
        self._producers.append(producer)
        return producer

    def consumer(self, group: str, topics: Sequence[str], positions: PositionSource) -> KafkaConsumer:
        """See ``Broker``."""
        options = self.consumer_options(group)
        consumer = KafkaConsumer(lambda: AIOKafkaConsumer(**options), group, topics, positions, self._settings)
        self._consumers.append(consumer)
        return consumer

    async def look(
        self, topic: str, since: int, until: int, wanted: Wanted, *, key: bytes | None, messages_max: int, wait_ms: int
    ) -> Looked:
        """See ``Broker``."""
        admin = await self._admin()
        try:
            count = (await _partition_counts(admin, [topic])).get(topic, 0)
        finally:
            await admin.close()
        if not count:
            raise BrokerSetupError(f"Kafka shows no topic {topic!r}; topics are made by ensure_topics")
        numbers = tuple(range(count)) if key is None else (partition_of(key, count),)
        # No group: it joins nothing, and leaves no position behind.
        options = self.consumer_options("") | {"group_id": None, "group_instance_id": None}
        limits = (messages_max, wait_ms)
        return await look(AIOKafkaConsumer(**options), self._settings, topic, numbers, (since, until), wanted, limits)

    async def close(self) -> None:
        """See ``Broker``."""
        consumers, self._consumers = self._consumers, []
        producers, self._producers = self._producers, []
        await asyncio.gather(*(consumer.stop() for consumer in consumers), *(producer.stop() for producer in producers))

    def producer_options(self, name: str) -> dict[str, Any]:
        """All that aiokafka is told about a producer."""
        settings = self._settings
        return self._connection(f"{settings.client_id}.{name}") | {
            "acks": "all",
            "enable_idempotence": True,
            "max_batch_size": settings.send_batch_bytes,
            "max_request_size": settings.message_bytes_max,
            "request_timeout_ms": settings.send_timeout_ms,
            "linger_ms": 0,  # our batches are full when they come
        }

    def consumer_options(self, group: str) -> dict[str, Any]:
        """All that aiokafka is told about a consumer."""
        settings = self._settings
        return self._connection(settings.client_id) | {
            "group_id": group,
            "group_instance_id": settings.instance_id,
            # Partitions of one number go to one member, in all topics: the answers to a saga come on several topics
            # under one key, and only who has them all keeps its state in memory.
            "partition_assignment_strategy": (RangePartitionAssignor,),
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "isolation_level": "read_committed",
            "session_timeout_ms": settings.session_timeout_ms,
            "heartbeat_interval_ms": settings.heartbeat_ms,
            "max_poll_interval_ms": settings.poll_interval_ms_max,
            "fetch_max_wait_ms": settings.kafka_fetch_wait_ms,
            "fetch_max_bytes": settings.fetch_bytes_max,
            "max_partition_fetch_bytes": max(settings.message_bytes_max + _BATCH_SLACK_BYTES, 1_048_588),
            # Joining waits for the slowest member, up to the session time-out: a request must outlast that.
            "request_timeout_ms": settings.session_timeout_ms + 5_000,
        }

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """See ``Broker``."""
        admin = await self._admin()
        try:
            await self._create_missing(admin, topics)
            await self._check(admin, topics)
        except kafka_errors.KafkaError as error:
            raise BrokerUnavailableError(f"Kafka could not look after the topics: {error}") from error
        finally:
            await admin.close()

    async def _admin(self) -> Any:
        """A connected client for questions about topics; the caller closes it."""
        admin = AIOKafkaAdminClient(**self._connection(f"{self._settings.client_id}.admin"))
        try:
            async with asyncio.timeout(self._settings.connect_timeout_ms / 1000):
                await admin.start()
        except (TimeoutError, kafka_errors.KafkaError) as error:
            await admin.close()
            raise BrokerUnavailableError(f"Kafka at {', '.join(self._servers)} cannot be reached: {error}") from error
        return admin

    async def _create_missing(self, admin: Any, topics: Sequence[TopicSpec]) -> None:
        found = await _partition_counts(admin, [spec.name for spec in topics])
        missing = [spec for spec in topics if spec.name not in found]
        if not missing:
            return
        answer = await admin.create_topics([self._new_topic(spec) for spec in missing])
        for name, code, text in (tuple(error)[:3] for error in answer.topic_errors):
            if code not in (0, _ALREADY_EXISTS):
                raise BrokerSetupError(f"Kafka did not create topic {name!r}: {text or kafka_errors.for_code(code)}")
            logger.info("topic %s %s", name, "created" if code == 0 else "was created by another process just now")

    def _new_topic(self, spec: TopicSpec) -> Any:
        settings = self._settings
        retention_ms = spec.retention_ms if spec.retention_ms is not None else settings.retention_ms_default
        configs = {
            "message.timestamp.type": _APPEND_TIME,
            "max.message.bytes": str(settings.message_bytes_max + _BATCH_SLACK_BYTES),
            "retention.ms": str(retention_ms),
            # Whatever producers send, the log holds it as it is: so the limit above counts what readers will get, and a
            # small batch that would be a thousand times as large in their memory is refused by the broker.
            "compression.type": "uncompressed",
        }
        partitions = spec.partitions or settings.partitions_default
        # An empty replica_assignments is how this driver lets -1, the cluster's default replication, pass.
        return NewTopic(
            spec.name, partitions, settings.kafka_replication, replica_assignments={}, topic_configs=configs
        )

    async def _check(self, admin: Any, topics: Sequence[TopicSpec]) -> None:
        names = [spec.name for spec in topics]
        counts = await self._wait_until_known(admin, names)
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        configs: dict[str, dict[str, str]] = {}
        for answer in await admin.describe_configs(resources):
            for code, text, _, name, entries in answer.resources:
                if code:
                    raise BrokerSetupError(f"Kafka did not show the configuration of topic {name!r}: {text}")
                configs[name] = {entry[0]: entry[1] for entry in entries}
        for spec in topics:
            check_topic(spec, counts[spec.name], configs[spec.name], self._settings.message_bytes_max)

    async def _wait_until_known(self, admin: Any, names: Sequence[str]) -> dict[str, int]:
        """A topic created a moment ago takes a little until every broker shows it."""
        deadline = asyncio.get_running_loop().time() + self._settings.connect_timeout_ms / 1000
        while True:
            counts = await _partition_counts(admin, names)
            unknown = [name for name in names if name not in counts]
            if not unknown:
                return counts
            if asyncio.get_running_loop().time() > deadline:
                raise BrokerUnavailableError(f"Kafka accepted, but does not show, the topics {', '.join(unknown)}")
            await asyncio.sleep(0.05)

    def _connection(self, client_id: str) -> dict[str, Any]:
        security = self._settings.kafka_security
        options: dict[str, Any] = {
            "bootstrap_servers": self._servers,
            "client_id": client_id,
            "security_protocol": security.protocol,
        }
        if security.protocol.endswith("SSL"):
            options["ssl_context"] = create_ssl_context(
                cafile=security.ca_file, certfile=security.cert_file, keyfile=security.key_file
            )
        if security.protocol.startswith("SASL"):
            options["sasl_mechanism"] = security.mechanism
            options["sasl_plain_username"] = security.username
            options["sasl_plain_password"] = security.password
        return options


async def _partition_counts(admin: Any, names: Sequence[str]) -> dict[str, int]:
    counts = {}
    for topic in await admin.describe_topics(list(names)):
        code = topic["error_code"]
        if code == 0 and topic["partitions"]:
            counts[topic["topic"]] = len(topic["partitions"])
        elif code not in (0, _UNKNOWN_TOPIC) and not kafka_errors.for_code(code).retriable:
            raise BrokerSetupError(f"Kafka did not describe topic {topic['topic']!r}: {kafka_errors.for_code(code)()}")
    return counts


def check_topic(spec: TopicSpec, partitions: int, configs: dict[str, str], message_bytes_max: int) -> None:
    """Compare what Kafka has with what is needed. Raises BrokerSetupError naming both values and what to do."""
    if spec.partitions is not None and partitions != spec.partitions:
        raise BrokerSetupError(
            f"topic {spec.name!r} has {partitions} partitions, {spec.partitions} are wanted. Changing the number moves "
            "keys to other partitions: drain the topic first, or set the wanted number to what is there."
        )
    stamp = configs.get("message.timestamp.type")
    if stamp != _APPEND_TIME:
        raise BrokerSetupError(
            f"topic {spec.name!r} has message.timestamp.type = {stamp}, {_APPEND_TIME} is needed: deadlines are judged "
            f"by when the broker took a message. Set it: kafka-configs.sh --alter --topic {spec.name} "
            f"--add-config message.timestamp.type={_APPEND_TIME}"
        )
    limit = int(configs.get("max.message.bytes", "0"))
    if limit < message_bytes_max:
        raise BrokerSetupError(
            f"topic {spec.name!r} has max.message.bytes = {limit}, the broker setting message_bytes_max is "
            f"{message_bytes_max}: messages that pass here would be refused there. Raise the first or lower the second."
        )
