"""Workers of a till on a real log in PostgreSQL, and what the coordinator would read of their answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from orchestrator.broker.contract import Assignment, Broker, IncomingMessage, OutgoingMessage, SendError, open_broker
from orchestrator.broker.settings import BrokerSettings
from orchestrator.messages.protocol import replies_topic
from orchestrator.participants import Participant, ParticipantSettings, Worker
from orchestrator.participants.work import Pool

PARTITIONS = 2
QUICK = ParticipantSettings(fetch_wait_ms=20, positions_ms=20, retry_ms=20)
BROKER = BrokerSettings(
    partitions_default=PARTITIONS, postgres_lease_ms=1_500, postgres_heartbeat_ms=300, postgres_poll_idle_ms=20
)


@asynccontextmanager
async def opened(url: str, participant: Participant) -> AsyncIterator[Broker]:
    """A broker with the participant's topics."""
    broker = open_broker(url.replace("postgresql://", "postgres://", 1), settings=BROKER)
    await broker.ensure_topics(participant.topics())
    try:
        yield broker
    finally:
        await broker.close()


@asynccontextmanager
async def at_work(
    participant: Participant, broker: Broker, pool: Pool, settings: ParticipantSettings = QUICK, **options: Any
) -> AsyncIterator[asyncio.Task[None]]:
    """A worker that runs meanwhile."""
    task = asyncio.create_task(Worker(participant, broker, pool, settings, **options).run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def send(broker: Broker, messages: Sequence[OutgoingMessage]) -> None:
    """As the coordinator's relay."""
    producer = broker.producer("test")
    await producer.start()
    assert set(await producer.send(messages)) <= {None}
    await producer.stop()


class Replies:
    """Everything that was ever answered."""

    def __init__(self, broker: Broker, participant: Participant) -> None:
        self.all: list[IncomingMessage] = []
        self._consumer = broker.consumer("test", [replies_topic(participant.name)], self._from_the_start)

    async def _from_the_start(self, places: frozenset[Assignment]) -> Mapping[Assignment, int | None]:
        return dict.fromkeys(places, None)

    async def __aenter__(self) -> Replies:
        await self._consumer.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._consumer.stop()

    async def read(self, count: int, seconds_max: float = 20.0) -> list[IncomingMessage]:
        """Waits until so many have come altogether."""
        async with asyncio.timeout(seconds_max):
            while len(self.all) < count:
                self.all += await self._consumer.fetch(500, 50)
        return self.all

    async def answered(self, count: int, seconds_max: float = 20.0) -> dict[str, set[tuple[bytes | None, str]]]:
        """Waits until so many different commands were answered; gives the distinct answers of each."""
        found: dict[str, set[tuple[bytes | None, str]]] = {}
        async with asyncio.timeout(seconds_max):
            while True:
                for message in self.all:
                    header = {name: value.decode() for name, value in message.headers}
                    found.setdefault(header["ce_causationid"], set()).add((message.value, header["ce_outcome"]))
                if len(found) >= count:
                    return found
                self.all += await self._consumer.fetch(500, 50)

    async def more(self, seconds: float = 0.5) -> list[IncomingMessage]:
        """What else comes within this time."""
        before = len(self.all)
        with suppress(TimeoutError):
            await self.read(before + 1, seconds)
        return self.all[before:]


def outcomes(messages: Sequence[IncomingMessage]) -> list[str]:
    """The outcomes of answers, sorted by what they answer."""
    headers = [dict(message.headers) for message in messages]
    return [header["ce_outcome"].decode() for header in sorted(headers, key=lambda header: header["ce_causationid"])]


class _OtherProducer:
    """A broker with another producer."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self.tried = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._broker, name)

    def producer(self, name: str) -> Any:
        """Itself: it sends nothing."""
        return self

    async def start(self) -> None:
        """Nothing to connect."""

    async def stop(self) -> None:
        """Nothing to disconnect."""


class SilentBroker(_OtherProducer):
    """Its producers never get an answer through: as a crash between commit and send."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[SendError | None]:
        """Hangs."""
        self.tried.set()
        await asyncio.sleep(3600)
        return []


class RefusingBroker(_OtherProducer):
    """Its producers may not write to the topic."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[SendError | None]:
        """Refused for good."""
        return [SendError("not_allowed", "an ACL forbids it", retriable=False) for _ in messages]
