"""Intake: from the broker into the coordinator, in batches, with positions in the same transaction.

Rules of this file
- Truth about progress is what the store holds; what the broker is told is a cache for people who watch lag.
- One partition belongs to one lane, and a lane has one batch under way, so positions of a partition never pass what is
  not processed. Lanes let the database work on one batch while Python decides another.
- What was fetched under an older assignment is dropped; whoever reads the partition now gets it again, and the inbox
  knows what was done already.
- Timers wait for intake (kernel rule 31): a partition is read up to an instant when its position has reached the end
  that was asked for after that instant. Idle partitions pass too; a paused or broken intake holds timers back.
- Back-pressure: while too many committed messages wait for the broker, reading pauses; nothing is buffered without end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

import structlog

from orchestrator.broker.contract import Assignment, BrokerError, Consumer, IncomingMessage
from orchestrator.runtime.coordinator import Coordinator
from orchestrator.runtime.hints import DbClock, Hint
from orchestrator.runtime.progress import Progress
from orchestrator.runtime.routing import Router
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.runtime.work import Item
from orchestrator.store.contract import StoreError

RETRY_MS_FIRST = 50
RETRY_MS_MAX = 2_000
END_OFFSETS_SECONDS_MAX = 5.0
TELL_BROKER_MS = 1_000

log = structlog.get_logger("orchestrator.intake")


class Lane:
    """Some partitions, and what was fetched of them and is not processed yet."""

    def __init__(self) -> None:
        self.pending: list[IncomingMessage] = []
        self.hint = Hint()


class Intake:
    """Reads topics as one member of a consumer group. Run `run`, `lane` for each lane, and `heartbeat` as loops."""

    def __init__(
        self,
        consumer: Consumer,
        coordinator: Coordinator,
        router: Router,
        clock: DbClock,
        *,
        group: str,
        batch_messages: int,
        wait_ms: int,
        heartbeat_ms: int,
        lanes: int,
        overloaded: Callable[[], bool],
    ) -> None:
        self._consumer = consumer
        self._coordinator = coordinator
        self._router = router
        self._clock = clock
        self._group = group
        self._batch_messages = batch_messages
        self._wait_ms = wait_ms
        self._heartbeat_ms = heartbeat_ms
        self._overloaded = overloaded
        self._generation = -1
        self._done = 0  # messages processed, at the last look
        self._room = Hint()
        self.lanes = [Lane() for _ in range(lanes)]
        self.progress = Progress()
        self.paused = False
        self.on_processed: Callable[[Sequence[IncomingMessage], float], None] | None = None  # a batch, and its seconds

    # --- reading ------------------------------------------------------------------------------------------------------

    async def run(self, stopping: Stopping, pulse: Pulse) -> None:
        """Fetches until asked to stop, then leaves the group. Raises what only people can mend (PositionLostError)."""
        retry_ms = RETRY_MS_FIRST
        await self._start(stopping, pulse)
        try:
            while not stopping:
                try:
                    await self._fetch()
                except (BrokerError, StoreError) as error:
                    if not error.retriable:
                        raise
                    pulse.trouble(f"{type(error).__name__}: {error}")
                    await stopping.sleep(retry_ms)
                    retry_ms = min(retry_ms * 2, RETRY_MS_MAX)
                    continue
                retry_ms = RETRY_MS_FIRST
                if self._consumer.settled():
                    pulse.beat()
                else:
                    pulse.trouble("the group has not given this process its partitions yet")
        finally:
            # What waits in lanes is not processed any more: it was not acknowledged, and the next owner reads it.
            for lane in self.lanes:
                lane.pending.clear()
            await self._consumer.stop()

    async def _start(self, stopping: Stopping, pulse: Pulse) -> None:
        while not stopping:
            try:
                await self._consumer.start()
                return
            except (BrokerError, StoreError) as error:
                if not error.retriable:
                    raise
                pulse.trouble(f"{type(error).__name__}: {error}")
                await stopping.sleep(RETRY_MS_MAX)

    async def _fetch(self) -> None:
        await self._pause_or_resume()
        room = self._batch_messages - max(len(lane.pending) for lane in self.lanes)
        if room <= 0:
            await self._room.wait(self._wait_ms)
            return
        messages = await self._consumer.fetch(room, self._wait_ms)
        self._notice_assignment()
        if not messages:
            return
        self.progress.fetched(messages)
        lanes = self.lanes
        if len(lanes) == 1:
            lanes[0].pending += messages
        else:
            for message in messages:
                lanes[message.partition % len(lanes)].pending.append(message)
        for lane in lanes:
            if lane.pending:
                lane.hint.give()

    def _notice_assignment(self) -> None:
        """After a change of assignment everything fetched before it is dropped, before anything new is taken."""
        generation, assignment = self._consumer.generation(), self._consumer.assignment()
        if generation != self._generation:
            self._generation = generation
            for lane in self.lanes:
                lane.pending.clear()
            self.progress.reset(assignment)
            log.info("partitions assigned", partitions=len(assignment), generation=generation)
        elif not assignment <= self.progress.assignment:
            # A new assignment may show only some fetches after its generation, once its positions were looked up.
            # Nothing is dropped here: under the same generation nobody would bring it again.
            self.progress.follow(assignment)
            log.info("partitions assigned", partitions=len(assignment), generation=generation)

    async def _pause_or_resume(self) -> None:
        overloaded = self._overloaded()
        if overloaded and not self.paused:
            self.paused = True
            await self._consumer.pause()
            log.warning("intake pauses: too many committed messages wait for the broker")
        elif self.paused and not overloaded:
            self.paused = False
            await self._consumer.resume()
            log.info("intake goes on")

    # --- processing ---------------------------------------------------------------------------------------------------

    async def lane(self, lane: Lane, stopping: Stopping, pulse: Pulse) -> None:
        """Processes what was fetched for one lane, batch by batch."""
        while not stopping:
            if not lane.pending:
                await lane.hint.wait(200)
                pulse.beat()
                continue
            batch, lane.pending = lane.pending[: self._batch_messages], lane.pending[self._batch_messages :]
            self._room.give()
            await self._process(batch, stopping, pulse)

    async def _process(self, batch: Sequence[IncomingMessage], stopping: Stopping, pulse: Pulse) -> None:
        generation = self._generation
        route = self._router.route
        began = perf_counter()
        items: list[Item] | None = None
        retry_ms = RETRY_MS_FIRST
        while self._consumer.generation() == generation:
            done = _next_offsets(batch)
            try:
                if items is None:
                    await self._router.learn(batch)
                    items = [item for message in batch if (item := route(message)) is not None]
                await self._coordinator.process(items, self._positions(done))
            except StoreError as error:
                if not error.retriable:
                    raise
                pulse.trouble(f"store: {error}")
                log.warning("batch not stored, trying again", error=str(error), messages=len(batch))
                await stopping.sleep(retry_ms)
                if stopping:
                    return
                retry_ms = min(retry_ms * 2, RETRY_MS_MAX)
                continue
            if self._generation == generation:
                self.progress.processed(done, batch)
            if self.on_processed is not None:
                self.on_processed(batch, perf_counter() - began)
            pulse.beat()
            return

    def _positions(self, done: Mapping[Assignment, int]) -> dict[tuple[str, str, int], tuple[int, int]]:
        group, until = self._group, self.progress.read_until
        return {(group, *place): (offset, until(place, offset)) for place, offset in done.items()}

    # --- how far in time ----------------------------------------------------------------------------------------------

    async def heartbeat(self, stopping: Stopping, pulse: Pulse) -> None:
        """Stores how far in time partitions are read, also idle ones, and tells the broker for people who watch lag."""
        told_ms = 0
        while not stopping:
            await stopping.sleep(self._heartbeat_ms)
            try:
                trouble = await self._beat()
                told_ms += self._heartbeat_ms
                if told_ms >= TELL_BROKER_MS and self._consumer.settled():
                    told_ms = 0
                    await self._consumer.commit(self.progress.stored())
            except (BrokerError, StoreError, TimeoutError) as error:
                if not getattr(error, "retriable", True):
                    raise
                pulse.trouble(f"{type(error).__name__}: {error}")
                continue
            if trouble:
                pulse.trouble(trouble)
            else:
                pulse.beat()

    async def _beat(self) -> str:
        """Looks once. Gives why nothing gets on, or "": everything is read, or some of it was just now."""
        generation = self._generation
        if generation < 0 or not self._consumer.settled():
            return "the group has not given this process its partitions yet"
        if self.paused:
            return ""  # on purpose; the relay says what it waits for
        if not self._clock.known:
            await self._coordinator.process([])  # reads the database's clock
        # The order counts: first the instant, then the ends. What was appended before the instant lies below them.
        now = self._clock.now()
        async with asyncio.timeout(END_OFFSETS_SECONDS_MAX):
            ends = await self._consumer.end_offsets()
        if self._consumer.generation() != generation or self._generation != generation:
            return "partitions have just moved"
        done, self._done = self._done, self.progress.done
        idle = self.progress.mark(now, ends, self._consumer.positions())
        if idle:
            group = self._group
            await self._coordinator.process([], {(group, *place): done for place, done in idle.items()})
            if self._generation == generation:
                self.progress.wrote(idle)
        behind = self.progress.behind
        return (
            f"{behind} partitions hold messages, and none was processed lately" if behind and done == self._done else ""
        )


def _next_offsets(batch: Sequence[IncomingMessage]) -> dict[Assignment, int]:
    # Offsets of a partition come in order, so the last one wins.
    return {(message.topic, message.partition): message.offset + 1 for message in batch}
