"""The relay: committed messages to the broker, in order per saga and topic, at least once.

Rules of this file
- A message is sent only when every earlier message of its saga was sent before by this relay, or is marked as being on
  the broker. Every relay that keeps this rule may send anything: several at once make duplicates, never a new order,
  because whoever is first to send a message has sent, or seen marked, all before it. So ownership is not needed for
  order, only to spare duplicates. (Messages that are sent together to different topics have no order between them.)
- From memory: rows that this process has just committed, where it is known to have committed all earlier ones too.
- By way of the table: rows of sagas that this process took over (`foreign`), rows that the broker did not take, rows
  beyond the memory's limit, and rows that a crash left behind. Once one row of a saga goes that way, all later ones do,
  until the table has been read past it.
- A row is marked after the broker has it. Dying in between sends it again: same id, same bytes.
- What the broker refuses for good goes back to its saga as an input, which makes its place stuck; then it is marked.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

import structlog

from orchestrator.broker.contract import BrokerError, OutgoingMessage, Producer, SendError
from orchestrator.kernel.inputs import SendRefused
from orchestrator.logs import about
from orchestrator.runtime.hints import Hint
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.runtime.work import Cause, Item, Outcome, SagaInput
from orchestrator.store.contract import OutboxRow, Store, StoreError

Process = Callable[[Sequence[Item]], Awaitable[list[Outcome]]]
Place = tuple[str, int]  # saga id, version

IDLE_MS = 200
REACH_MAX = 64

log = structlog.get_logger("orchestrator.relay")


class Relay:
    """Publishes the outbox. `accept` takes rows right after their commit; run `run`, `mark` and `sweep` as loops.

    owner: True where no coordinator in this process commits rows, so that all rows are to be taken from the table at
    once. Otherwise the table is searched for rows that nobody sent for `sweep_ms`.
    """

    def __init__(
        self,
        store: Store,
        producer: Producer,
        process: Process,
        *,
        tenant: str,
        batch_rows: int,
        memory_rows_max: int,
        backlog_rows_max: int,
        mark_ms: int,
        sweep_ms: int,
        poll_ms: int,
        retry_ms: int,
        owner: bool = False,
        shard: int = 0,
        shards: int = 1,
    ) -> None:
        self._store, self._producer, self._process = store, producer, process
        self._tenant = tenant
        self._batch_rows, self._memory_max, self._backlog_max = batch_rows, memory_rows_max, backlog_rows_max
        self._mark_ms, self._sweep_ms, self._poll_ms, self._retry_ms = mark_ms, sweep_ms, poll_ms, retry_ms
        self._owner, self._shard, self._shards = owner, shard, shards
        self._queue: deque[OutboxRow] = deque()
        self._in_memory: dict[str, int] = {}  # saga id -> its rows between `accept` and the broker's answer
        self._by_table: dict[str, int] = {}  # saga id -> the newest version that is to come by way of the table
        self._reach = 1  # how many batches deep the table is read
        self._seen: set[Place] = set()  # unsent at the last sweep, and nobody's business of this process
        self._sent: list[Place] = []  # on the broker, not marked yet
        self._unmarked: set[Place] = set()  # the same, with those whose marking is under way
        self._marked_meanwhile: set[Place] | None = None  # marked while the table is read: it may still show them
        self._wake = Hint()
        self._wake_sweep = Hint()
        self._wake_mark = Hint()
        self.sent_rows = 0
        self.swept_rows = 0
        self.refused_rows = 0

    # --- from the coordinator -----------------------------------------------------------------------------------------

    def accept(self, saga_id: str, rows: Sequence[OutboxRow], foreign: bool) -> None:
        """Takes rows of one saga right after their commit. `foreign`: earlier rows may be another process's."""
        if foreign or saga_id in self._by_table or len(self._queue) >= self._memory_max:
            self._to_table(saga_id, rows[-1].version)
            return
        self._queue.extend(rows)
        self._in_memory[saga_id] = self._in_memory.get(saga_id, 0) + len(rows)
        self._wake.give()

    @property
    def backlog_rows(self) -> int:
        """Committed rows that wait in memory."""
        return len(self._queue)

    def facts(self) -> dict[str, int]:
        """Sizes and counts by name."""
        return {
            "outbox_waiting_rows": len(self._queue),
            "outbox_sagas_by_table": len(self._by_table),
            "outbox_sent_rows": self.sent_rows,
            "outbox_swept_rows": self.swept_rows,
            "outbox_refused_rows": self.refused_rows,
        }

    def overloaded(self) -> bool:
        """So much waits that intake should not bring more."""
        return len(self._queue) + len(self._by_table) >= self._backlog_max

    # --- sending ------------------------------------------------------------------------------------------------------

    async def run(self, stopping: Stopping, pulse: Pulse) -> None:
        """Sends what was accepted, batch by batch; on stop everything that waits in memory, once."""
        await self._connect(stopping, pulse)
        while not stopping or self._queue:
            if not self._queue:
                await self._wake.wait(IDLE_MS)
                pulse.beat()
                continue
            trouble = await self._send_from_memory()
            if trouble is None:
                pulse.beat()
            else:
                pulse.trouble(f"broker: {trouble}")
                if stopping:
                    break
                await stopping.sleep(self._retry_ms)

    async def _connect(self, stopping: Stopping, pulse: Pulse) -> None:
        """Reaches the broker before there is anything to send: a relay that could not send is not ready."""
        while not stopping:
            try:
                await self._producer.start()
                return
            except BrokerError as error:
                pulse.trouble(f"broker: {error}")
                await stopping.sleep(self._retry_ms)

    async def _send_from_memory(self) -> Exception | None:
        queue, by_table = self._queue, self._by_table
        taken = [queue.popleft() for _ in range(min(len(queue), self._batch_rows))]
        rows = taken
        if by_table:
            rows = []
            for row in taken:
                if row.saga_id in by_table:
                    self._to_table(row.saga_id, row.version)  # it lies there too, and must not overtake from here
                else:
                    rows.append(row)
        try:
            trouble, _ = await self._send(rows)
        finally:
            self._leave_memory(taken)
        return trouble

    async def _send(self, rows: Sequence[OutboxRow]) -> tuple[Exception | None, set[str]]:
        """Sends rows in order and notes what became of them.

        Gives an error that may pass, if there was one, and the sagas whose rows were not all taken: what is left of
        them goes by way of the table. (The broker holds back what would overtake a failed row of the same key.)
        """
        messages = [OutgoingMessage(row.topic, row.key.encode(), row.value, row.headers) for row in rows]
        failed: set[str] = set()
        if not messages:
            return None, failed
        try:
            results = await self._producer.send(messages)
        except BrokerError as unsendable:
            for row in rows:
                failed.add(row.saga_id)
                self._to_table(row.saga_id, row.version)
            return unsendable, failed
        trouble: SendError | None = None
        for row, error in zip(rows, results, strict=True):
            if error is None:
                self._note_sent((row.saga_id, row.version))
            elif error.retriable:
                trouble = error
                failed.add(row.saga_id)
                self._to_table(row.saga_id, row.version)
            elif not await self._refused(row, error):
                failed.add(row.saga_id)
        self.sent_rows += len(rows)
        if len(self._sent) >= self._batch_rows:
            self._wake_mark.give()
        return trouble, failed

    async def _refused(self, row: OutboxRow, error: SendError) -> bool:
        """The broker will never take this row: its saga is told, in a transaction, before the row is given up."""
        given = SendRefused(row.version, str(error))
        cause = Cause(self._tenant, causation_id=f"{row.saga_id}/{row.version}")
        try:
            await self._process([SagaInput(row.saga_id, given, cause)])
        except StoreError as failure:
            log.warning("a refused message could not be given back yet", error=str(failure), **_about(row))
            self._to_table(row.saga_id, row.version)
            return False
        self.refused_rows += 1
        self._note_sent((row.saga_id, row.version))
        log.error("the broker refuses a message for good", version=row.version, error=str(error), **_about(row))
        return True

    def _leave_memory(self, rows: Iterable[OutboxRow]) -> None:
        counts = self._in_memory
        for row in rows:
            left = counts[row.saga_id] - 1
            if left:
                counts[row.saga_id] = left
            else:
                del counts[row.saga_id]

    def _note_sent(self, place: Place) -> None:
        self._sent.append(place)
        self._unmarked.add(place)

    def _to_table(self, saga_id: str, version: int) -> None:
        self._by_table[saga_id] = max(version, self._by_table.get(saga_id, 0))
        self._wake_sweep.give()

    # --- marking ------------------------------------------------------------------------------------------------------

    async def mark(self, stopping: Stopping, pulse: Pulse) -> None:
        """Marks what was sent, many rows at once. On stop, marks the rest."""
        while not stopping or self._sent:
            await self._wake_mark.wait(self._mark_ms)
            try:
                await self.mark_now()
            except StoreError as error:
                if not error.retriable:
                    raise
                pulse.trouble(f"store: {error}")
                if stopping:
                    return  # what stays unmarked is sent again: a duplicate, never a loss
                await stopping.sleep(self._retry_ms)
                continue
            pulse.beat()

    async def mark_now(self) -> None:
        """Marks what was sent up to now. Raises StoreError; then it is marked later."""
        if not self._sent:
            return
        places, self._sent = self._sent, []
        try:
            await self._store.mark_sent(places)
        except BaseException:
            self._sent = places + self._sent
            raise
        self._unmarked.difference_update(places)
        if self._marked_meanwhile is not None:
            self._marked_meanwhile.update(places)

    # --- the table ----------------------------------------------------------------------------------------------------

    async def sweep(self, stopping: Stopping, pulse: Pulse) -> None:
        """Sends what has to go by way of the table: at once for sagas known here, after `sweep_ms` for left-overs."""
        searched_ms = 0.0
        while not stopping:
            await self._wake_sweep.wait(self._poll_ms if self._owner or self._by_table else self._sweep_ms)
            now_ms = time.monotonic() * 1000
            search = self._owner or now_ms - searched_ms >= self._sweep_ms
            if not search and not self._by_table:
                continue
            try:
                trouble = await self.sweep_now(search=search)
            except StoreError as error:
                if not error.retriable:
                    raise
                pulse.trouble(f"store: {error}")
                await stopping.sleep(self._retry_ms)
                continue
            if search:
                searched_ms = now_ms
            if trouble is None:
                pulse.beat()
            else:
                pulse.trouble(f"broker: {trouble}")
                await stopping.sleep(self._retry_ms)

    async def sweep_now(self, *, search: bool = True) -> Exception | None:
        """Reads unsent rows once and sends those that are due; gives an error of the broker that may pass.

        `search`: also rows that nobody here knows of. They are sent when they were unsent at the search before as well
        (an owner sends them at once): what another process has just committed is being sent by that process.
        """
        await self.mark_now()
        known = dict(self._by_table)
        limit = self._batch_rows * self._reach
        sent = self._marked_meanwhile = set(self._unmarked)
        try:
            rows = await self._store.unsent(self._shard, self._shards, limit)
        finally:
            self._marked_meanwhile = None
        sent |= self._unmarked
        mine: list[OutboxRow] = []
        seen: set[Place] = set()
        for row in rows:
            if row.saga_id in self._in_memory:
                continue  # its earlier rows are on their way from memory; the order would be lost
            place = (row.saga_id, row.version)
            if place in sent:
                continue  # on the broker already, by us
            if self._owner or row.saga_id in known or (search and place in self._seen):
                mine.append(row)
                # From here to the end of this sweep, what is committed for this saga must not overtake from memory.
                self._by_table[row.saga_id] = max(row.version, self._by_table.get(row.saga_id, 0))
            elif search:
                seen.add(place)
        if search:
            self._seen = seen
        trouble, failed = await self._send(mine)
        self.swept_rows += len(mine)
        self._forget(known, mine, failed, complete=len(rows) < limit)
        # Rows that the broker does not take stay the oldest: look past them, so that they block only their own sagas.
        self._reach = 1 if trouble is None else min(self._reach * 2, REACH_MAX)
        await self.mark_now()
        if mine and len(rows) == limit:
            self._wake_sweep.give()
        return trouble

    def _forget(self, known: dict[str, int], mine: Sequence[OutboxRow], failed: set[str], *, complete: bool) -> None:
        """Sagas whose rows have all been sent may go from memory again."""
        read = {row.saga_id: row.version for row in mine}  # rows come in order of versions: the newest one stays
        for saga_id in read.keys() | known.keys():
            if saga_id in failed or saga_id in self._in_memory:
                continue
            newest = self._by_table.get(saga_id)
            sent = read.get(saga_id, 0)
            # Not there although the whole table was read: somebody else has sent and marked it. What was added after
            # the reading began has a newer version and stays.
            elsewhere = complete and newest is not None and newest <= known.get(saga_id, 0)
            if newest is not None and (newest <= sent or elsewhere):
                del self._by_table[saga_id]


def _about(row: OutboxRow) -> dict[str, str]:
    """What a line about a row has: its saga, and the trace that its message carries."""
    trace = next((value for name, value in row.headers if name == "traceparent"), b"")
    return about(row.saga_id, trace.decode("ascii", "replace"))
