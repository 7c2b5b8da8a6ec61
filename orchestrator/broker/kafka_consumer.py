"""Reading from Kafka: the driver's prefetching consumer, kept from ever skipping a message.

Rules:
- Nothing is returned to the caller from an assignment that was not positioned by the caller's position source. Kafka's
  committed offsets are a cache and may be ahead of the truth.
- The driver's callbacks only ever *stop* delivery (they count the generation up); positioning happens in ``fetch``,
  where an error reaches somebody. A callback's error would only be logged.
- ``getmany`` is run in a task that outlives a ``fetch``: it blocks without limit while a group is rearranged, and a
  cancelled one could have moved the driver's position past messages that nobody saw.
- After any error of ``getmany`` the driver's positions are set again from what was really delivered, since it moves
  them before it raises.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka import ConsumerRebalanceListener, TopicPartition

from orchestrator.broker.contract import (
    Assignment,
    BrokerError,
    BrokerSetupError,
    BrokerUnavailableError,
    IncomingMessage,
    PositionLostError,
    PositionSource,
)
from orchestrator.broker.kafka_driver import close_consumer
from orchestrator.broker.settings import BrokerSettings

logger = logging.getLogger(__name__)

InnerConsumer = Any
"""aiokafka.AIOKafkaConsumer, which publishes no types."""


class _Membership(ConsumerRebalanceListener):  # type: ignore[misc] # the driver publishes no types
    """What the group last told us. The methods cannot fail and do not wait."""

    def __init__(self) -> None:
        self.generation = 0
        self.assigned: frozenset[Any] | None = None  # None while the group is being rearranged
        self.settled = asyncio.Event()

    def on_partitions_revoked(self, revoked: set[Any]) -> None:
        self.generation += 1
        self.assigned = None
        self.settled.clear()

    def on_partitions_assigned(self, assigned: set[Any]) -> None:
        self.generation += 1
        self.assigned = frozenset(assigned)
        self.settled.set()


class KafkaConsumer:
    """A ``Consumer`` on aiokafka."""

    def __init__(
        self,
        make_inner: Callable[[], InnerConsumer],
        group: str,
        topics: Sequence[str],
        positions: PositionSource,
        settings: BrokerSettings,
    ) -> None:
        """``make_inner`` returns a new, unstarted aiokafka consumer without topics."""
        self._make_inner = make_inner
        self._group = group
        self._topics = list(topics)
        self._position_source = positions
        self._settings = settings
        self._inner: InnerConsumer | None = None
        self._membership = _Membership()
        self._positioned = -1  # the generation whose partitions were positioned
        self._next: dict[Assignment, int] = {}  # delivered up to, not including
        self._polling: asyncio.Task[Any] | None = None
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._stopped = False

    async def start(self) -> None:
        """See ``Consumer``."""
        inner = self._make_inner()
        try:
            async with asyncio.timeout(self._settings.connect_timeout_ms / 1000):
                await inner.start()
                known = await inner.topics()
        except (TimeoutError, kafka_errors.KafkaError) as error:
            await close_consumer(inner, self._settings.stop_timeout_ms)
            raise BrokerUnavailableError(f"Kafka cannot be reached: {str(error) or 'no answer in time'}") from error
        missing = sorted(set(self._topics) - known)
        if missing:
            await close_consumer(inner, self._settings.stop_timeout_ms)
            raise BrokerSetupError(
                f"group {self._group}: Kafka shows no topic {', '.join(missing)}; topics are made by ensure_topics"
            )
        inner.subscribe(self._topics, listener=self._membership)
        self._inner = inner

    async def fetch(self, max_messages: int, wait_ms: int) -> list[IncomingMessage]:
        """See ``Consumer``."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_ms / 1000
        while True:
            inner = self._running()
            if not await self._settle(inner, deadline):
                return []
            if not self._resumed.is_set():
                await _wait_for(self._resumed, deadline)
                if not self._resumed.is_set():
                    self._poll(inner, 1, 0.0)  # the partitions are paused; this tells the group that we are alive
                    return []
                continue
            task = self._poll(inner, max_messages, deadline - loop.time())
            await asyncio.wait({task}, timeout=max(0.0, deadline - loop.time()))
            if not task.done():
                return []
            self._polling = None
            messages = await self._take(inner, task)
            if messages or loop.time() >= deadline or self._stopped:
                return messages

    def assignment(self) -> frozenset[Assignment]:
        """See ``Consumer``."""
        return frozenset(self._next) if self._positioned == self._membership.generation else frozenset()

    def settled(self) -> bool:
        """See ``Consumer``."""
        membership = self._membership
        known = membership.assigned is not None and self._positioned == membership.generation
        return known and self._inner is not None and not self._stopped

    def generation(self) -> int:
        """See ``Consumer``."""
        return self._membership.generation

    def positions(self) -> dict[Assignment, int]:
        """See ``Consumer``."""
        return dict(self._next) if self._positioned == self._membership.generation else {}

    async def end_offsets(self) -> dict[Assignment, int]:
        """See ``Consumer``."""
        partitions = [TopicPartition(*item) for item in self.assignment()]
        return await self._offsets(self._running().end_offsets, partitions)

    async def commit(self, positions: Mapping[Assignment, int]) -> None:
        """See ``Consumer``."""
        mine = self.assignment()
        offsets = {TopicPartition(*item): offset for item, offset in positions.items() if item in mine}
        if not offsets:
            return
        try:
            async with asyncio.timeout(self._settings.stop_timeout_ms / 1000):
                await self._running().commit(offsets)
        except (TimeoutError, kafka_errors.KafkaError) as error:
            logger.debug("group %s: the commit for lag monitors was not taken: %s", self._group, error)

    async def pause(self) -> None:
        """See ``Consumer``."""
        self._resumed.clear()
        inner, assigned = self._running(), self._membership.assigned
        if assigned and self._positioned == self._membership.generation:
            inner.pause(*assigned)

    async def resume(self) -> None:
        """See ``Consumer``."""
        self._resumed.set()
        inner, assigned = self._running(), self._membership.assigned
        if assigned and self._positioned == self._membership.generation:
            inner.resume(*assigned)

    async def stop(self) -> None:
        """See ``Consumer``."""
        self._stopped = True
        self._membership.on_partitions_revoked(set())
        self._membership.settled.set()  # lets a waiting fetch go
        self._resumed.set()
        await self._drop_poll()
        inner, self._inner = self._inner, None
        if inner is None:
            return
        await close_consumer(inner, self._settings.stop_timeout_ms)

    def _running(self) -> InnerConsumer:
        if self._inner is None:
            state = "was stopped" if self._stopped else "was not started"
            raise BrokerError(f"the consumer of group {self._group} {state}")
        return self._inner

    async def _settle(self, inner: InnerConsumer, deadline: float) -> bool:
        """Wait until the group has given us our share, and stand where the position source says."""
        membership = self._membership
        while self._positioned != membership.generation:
            if membership.assigned is None:
                await _wait_for(membership.settled, deadline)
                if self._stopped:
                    return False
                if membership.assigned is None:
                    self._check_driver(inner)
                    return False
            await self._drop_poll()
            await self._position(inner, membership.generation, membership.assigned)
        return not self._stopped

    async def _position(self, inner: InnerConsumer, generation: int, assigned: frozenset[Any]) -> None:
        wanted = await self._position_source(frozenset((tp.topic, tp.partition) for tp in assigned))
        starts = await self._offsets(inner.beginning_offsets, list(assigned))
        ends = await self._offsets(inner.end_offsets, list(assigned))
        positions: dict[Assignment, int] = {}
        for item, start in starts.items():
            position = wanted.get(item)
            if position is not None and not start <= position <= ends[item]:
                raise PositionLostError(*item, position, start, ends[item])
            positions[item] = start if position is None else position
        if generation != self._membership.generation:
            return  # rearranged again while we asked; the caller loops
        self._next = positions
        self._seek(inner, positions)
        if not self._resumed.is_set():
            inner.pause(*assigned)
        self._positioned = generation

    def _seek(self, inner: InnerConsumer, positions: Mapping[Assignment, int]) -> None:
        """Drops the driver's buffers for these partitions and sets where it reads on."""
        for item, position in positions.items():
            inner.seek(TopicPartition(*item), position)

    def _poll(self, inner: InnerConsumer, max_messages: int, wait_s: float) -> "asyncio.Task[Any]":
        if self._polling is None:
            wait_ms = max(0, int(wait_s * 1000))
            call = inner.getmany(timeout_ms=wait_ms, max_records=max_messages)
            self._polling = asyncio.create_task(call, name=f"kafka-poll-{self._group}")
        return self._polling

    async def _drop_poll(self) -> None:
        """End the running poll. Whoever calls this sets positions afterwards: it may have moved the driver's."""
        task, self._polling = self._polling, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()

    async def _take(self, inner: InnerConsumer, task: "asyncio.Task[Any]") -> list[IncomingMessage]:
        """What a finished poll brought, if it still belongs to the present generation."""
        if self._positioned != self._membership.generation or task.cancelled():
            if not task.cancelled():
                task.exception()
            return []  # the next round positions anew, so nothing is lost
        error = task.exception() or self._went_back(task.result())
        if error is None:
            return self._convert(inner, task.result())
        self._seek(inner, self._next)
        if isinstance(error, kafka_errors.OffsetOutOfRangeError):
            await self._raise_lost(inner)
        raise _consumer_error(self._group, error) from error

    def _went_back(self, records: Mapping[Any, list[Any]]) -> Exception | None:
        """A paired check of the driver: whatever it does inside, what was delivered is not delivered again unasked."""
        for partition, batch in records.items():
            expected = self._next[partition.topic, partition.partition]
            if batch[0].offset < expected:
                return RuntimeError(
                    f"{partition.topic}[{partition.partition}] went back from {expected} to {batch[0].offset}"
                )
        return None

    def _convert(self, inner: InnerConsumer, records: Mapping[Any, list[Any]]) -> list[IncomingMessage]:
        messages: list[IncomingMessage] = []
        for partition, batch in records.items():
            item = (partition.topic, partition.partition)
            for record in batch:
                headers = record.headers
                for _, value in headers:
                    if value is None:  # allowed in Kafka; no reader of ours tells it from an empty one
                        headers = tuple((name, text or b"") for name, text in headers)
                        break
                messages.append(
                    IncomingMessage(
                        item[0], item[1], record.offset, record.key, record.value, headers, record.timestamp * 1000
                    )
                )
            self._next[item] = batch[-1].offset + 1
        for item in self._next:
            # The driver also passes what holds no message: markers of transactions, compacted records.
            state = inner._subscription.subscription.assignment.state_value(TopicPartition(*item))
            if state is not None and state.has_valid_position:
                self._next[item] = max(self._next[item], state.position)
        return messages

    async def _raise_lost(self, inner: InnerConsumer) -> None:
        """Find the partition whose position fell out of the log and say so."""
        partitions = [TopicPartition(*item) for item in self._next]
        starts = await self._offsets(inner.beginning_offsets, partitions)
        ends = await self._offsets(inner.end_offsets, partitions)
        for item, position in self._next.items():
            if not starts[item] <= position <= ends[item]:
                raise PositionLostError(*item, position, starts[item], ends[item])

    async def _offsets(self, ask: Callable[[list[Any]], Any], partitions: list[Any]) -> dict[Assignment, int]:
        if not partitions:
            return {}
        try:
            async with asyncio.timeout(self._settings.connect_timeout_ms / 1000):
                answer = await ask(partitions)
        except (TimeoutError, kafka_errors.KafkaError) as error:
            why = str(error) or "no answer in time"
            raise BrokerUnavailableError(
                f"group {self._group}: Kafka does not tell how far its partitions reach: {why}"
            ) from error
        return {(tp.topic, tp.partition): offset for tp, offset in answer.items()}

    def _check_driver(self, inner: InnerConsumer) -> None:
        """A coordination error must reach somebody even while ``getmany`` is not called."""
        try:
            inner._coordinator.check_errors()
        except kafka_errors.KafkaError as error:
            raise _consumer_error(self._group, error) from error


async def _wait_for(event: asyncio.Event, deadline: float) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            await event.wait()
    except TimeoutError:
        pass


def _consumer_error(group: str, error: BaseException) -> BrokerError:
    if isinstance(error, kafka_errors.GroupAuthorizationFailedError | kafka_errors.TopicAuthorizationFailedError):
        return BrokerSetupError(f"group {group}: Kafka's ACLs do not let us read: {error}")
    if getattr(error, "retriable", False) or isinstance(error, kafka_errors.KafkaTimeoutError):
        return BrokerUnavailableError(f"group {group}: {error}")
    return BrokerError(f"group {group}: Kafka's driver failed: {type(error).__name__}: {error}")
