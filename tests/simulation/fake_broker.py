"""The broker in memory: a `contract.Broker` for one process, over a log that outlives it.

Rules of this file
- It keeps the same contract suite as Kafka and the log in PostgreSQL (`tests/contracts/brokers.py`).
- A member that did not fetch for `session_timeout_ms` has been taken for dead: it counts its generation up and reads
  again from the stored positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.broker.contract import (
    BrokerError,
    BrokerSetupError,
    Looked,
    OutgoingMessage,
    PositionSource,
    SendError,
    TopicSpec,
    Wanted,
    too_large,
)
from orchestrator.broker.partition import partition_of
from orchestrator.broker.settings import BrokerSettings
from tests.simulation.fake_consumer import FakeConsumer
from tests.simulation.fake_log import Log
from tests.simulation.ports import Port

Refuses = Callable[[OutgoingMessage], SendError | None]


class FakeProducer:
    """A `contract.Producer`. `refuses`: what the broker will never take, besides what is too large."""

    def __init__(self, log: Log, port: Port, settings: BrokerSettings, refuses: Refuses) -> None:
        self._log, self._port, self._settings, self._refuses = log, port, settings, refuses
        self._stopped = False

    async def start(self) -> None:
        """Connects."""
        await self._port.call("connect", _nothing)

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[SendError | None]:
        """Appends all that can be appended."""
        if self._stopped:
            raise BrokerError("the producer was stopped")

        async def append() -> list[SendError | None]:
            held: set[tuple[str, int]] = set()
            return [self._append(message, held) for message in messages]

        return await self._port.call("send", append)

    def _append(self, message: OutgoingMessage, held: set[tuple[str, int]]) -> SendError | None:
        """One message. `held`: partitions of which an earlier message was not taken."""
        if message.topic not in self._log.topics:
            return SendError("unknown_topic", f"there is no topic {message.topic}", retriable=True)
        refusal = too_large(message, self._settings.message_bytes_max) or self._refuses(message)
        if refusal is not None:
            return refusal
        place = (message.topic, self._log.partition(message))
        if place in held:
            return SendError("held_back", "an earlier message of its partition failed", retriable=True)
        fate = self._port.fate(message)
        if fate != "unavailable":
            self._log.append(message)
        if fate:
            held.add(place)
            return SendError(fate, "simulated", retriable=True)
        return None

    async def stop(self) -> None:
        """Disconnects."""
        self._stopped = True


class FakeBroker:
    """A `contract.Broker`."""

    def __init__(
        self, log: Log, settings: BrokerSettings, port: Port | None = None, refuses: Refuses = lambda message: None
    ) -> None:
        self._log, self._settings, self._port, self._refuses = log, settings, port or Port(), refuses
        self._made: list[FakeProducer | FakeConsumer] = []

    def producer(self, name: str) -> FakeProducer:
        """A producer."""
        made = FakeProducer(self._log, self._port, self._settings, self._refuses)
        self._made.append(made)
        return made

    def consumer(self, group: str, topics: Sequence[str], positions: PositionSource) -> FakeConsumer:
        """A member of a group."""
        made = FakeConsumer(self._log, self._port, group, topics, positions, self._settings.session_timeout_ms)
        self._made.append(made)
        return made

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Makes what is missing and checks the rest."""
        for spec in topics:
            there = self._log.topics.get(spec.name)
            if there is None:
                self._log.make(spec.name, spec.partitions or self._settings.partitions_default)
            elif spec.partitions not in (None, len(there)):
                raise BrokerSetupError(
                    f"topic {spec.name} has {len(there)} partitions, {spec.partitions} are wanted: make it anew"
                )

    async def look(
        self, topic: str, since: int, until: int, wanted: Wanted, *, key: bytes | None, messages_max: int, wait_ms: int
    ) -> Looked:
        """Reads a stretch of the log."""
        there = self._log.topics.get(topic)
        if there is None:
            raise BrokerSetupError(f"the log has no topic {topic!r}")
        numbers = range(len(there)) if key is None else [partition_of(key, len(there))]
        fits = [m for n in numbers for m in there[n].messages[there[n].start :] if since <= m.appended_at <= until]
        read = fits[:messages_max]
        return Looked(tuple(numbers), tuple(filter(wanted, read)), len(read), len(read) == len(fits))

    async def close(self) -> None:
        """Stops everything made here."""
        for made in self._made:
            await made.stop()


async def _nothing() -> None:
    return None
