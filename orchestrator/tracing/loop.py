"""The loop that turns records of sampled sagas into spans and sends them, outside the path of any commit.

How nothing is lost, and nothing is doubled
    due      the oldest batches that hold sampled records (the coordinator notes them in its own transaction)
    fold     the spans of each saga; where its fold is not in memory, its earlier records are read, and sent as well
    post     until the collector has taken them, or refused them for good
    sent     the batches are forgotten
A crash anywhere sends again what was sent: the same spans, of which Jaeger shows one. Sending earlier records as well
costs some bytes after a restart or a long wait, and makes a trace whole of which the collector has forgotten a part.

Rules of this file
- One process sends at a time, so that a span never comes before its parent; which one is a hold of some seconds.
- A collector that is away is tried again for ever with one request in memory. What piles up in the store is small and
  has a limit; beyond it the oldest is given up, said in the log, and can be sent with `orchestrator traces emit`.
- It never makes a process unready: money moves without spans.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence

import structlog

from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.store.contract import StoreError
from orchestrator.tracing.fold import Fields, SagaSpans, TopicOf
from orchestrator.tracing.makers import saga_spans
from orchestrator.tracing.sender import Sender
from orchestrator.tracing.span import Span, encoded, encoded_span
from orchestrator.tracing.store import Due, Row, Told, TraceStore

BATCHES_MAX = 200
HOLD_MS = 10_000
PAUSE_MS = 500.0
PAUSE_MS_MAX = 15_000.0
POST_SPANS_MAX = 2_000
GIVE_UP_EVERY_SECONDS = 60.0

log = structlog.get_logger("orchestrator.traces")


class TraceLoop:
    """Sends spans of records. `who`: this process among others; `told`: without anything of one process alone."""

    def __init__(
        self,
        store: TraceStore,
        sender: Sender,
        told: Told,
        topic_of: TopicOf,
        *,
        who: str,
        poll_ms: int,
        records_max: int,
        sagas_max: int,
        backlog_batches_max: int,
    ) -> None:
        self._store, self._sender, self._told, self._topic_of = store, sender, told, topic_of
        self._who, self._poll_ms = who, poll_ms
        self._records_max, self._sagas_max, self._backlog_max = records_max, sagas_max, backlog_batches_max
        self._folds: OrderedDict[str, SagaSpans] = OrderedDict()
        self._held_until = 0.0
        self._looked_at_backlog = time.monotonic()
        self.sent_spans = 0
        self.refused_spans = 0
        self.given_up_batches = 0
        self.trouble = ""  # why the collector does not take them, "" while it does

    def facts(self) -> dict[str, int]:
        """Sizes and counts by name."""
        return {
            "trace_spans_sent": self.sent_spans,
            "trace_spans_refused": self.refused_spans,
            "trace_batches_given_up": self.given_up_batches,
        }

    async def run(self, stopping: Stopping, pulse: Pulse) -> None:
        """Sends until asked to stop."""
        try:
            while not stopping:
                pause: float = self._poll_ms
                try:
                    if await self._hold():
                        await self._limit_backlog()  # a collector that is only slow is overtaken as well
                        pause = 0 if await self.step(stopping, pulse) else pause
                except StoreError as error:
                    if not error.retriable:
                        log.error("spans cannot be read", reason=str(error)[:500])
                    pause = PAUSE_MS_MAX if not error.retriable else PAUSE_MS
                except Exception as error:  # spans never end the process that money runs through
                    log.error("spans cannot be made", reason=repr(error)[:500])
                    self._folds.clear()
                    pause = PAUSE_MS_MAX
                pulse.beat()
                await stopping.sleep(pause) if pause else await asyncio.sleep(0)
        finally:
            self._sender.close()
        try:
            await self._store.let_go(self._who)
        except StoreError as error:
            log.info("the hold on sending spans ends by itself", reason=str(error)[:200])

    async def step(self, stopping: Stopping, pulse: Pulse) -> bool:
        """Sends one page of what is due. False: there was nothing, or it could not be sent before the stop."""
        due = self._page(await self._store.due(BATCHES_MAX))
        if not due:
            return False
        spans = await self._spans(await self._store.records(due))
        for first in range(0, len(spans), POST_SPANS_MAX):
            if not await self._deliver(spans[first : first + POST_SPANS_MAX], stopping, pulse):
                self._folds.clear()  # what was folded was not sent: whoever comes next begins at the same batch
                return False
        await self._store.sent(due)
        return True

    def _page(self, due: Due) -> Due:
        """As many batches as make a page; at least one."""
        count = 0
        for number, (_, places) in enumerate(due):
            count += sum(places[1::2]) - sum(places[::2]) + len(places) // 2
            if count > self._records_max and number:
                return due[:number]
        return due

    async def _spans(self, rows: Sequence[Row]) -> list[Span]:
        """The spans of records, in order; those of earlier records first where the saga's fold is not in memory."""
        missing: dict[str, int] = {}
        reached: dict[str, int] = {}
        for saga_id, fields in rows:
            fold = self._folds.get(saga_id)
            before = reached.get(saga_id, fold.version if fold is not None else 0)
            if fields.version != before + 1 and fields.version > 1:
                missing[saga_id] = fields.version
            reached[saga_id] = fields.version
        spans: list[Span] = []
        for saga_id, earlier in (await self._store.before(missing) if missing else {}).items():
            fold = self._begin(saga_id)
            for fields in earlier:
                spans += self._taken(fold, fields)
        ended = []
        for saga_id, fields in rows:
            fold = self._folds.get(saga_id)
            if fold is None or (fields.version == 1 and saga_id not in missing):
                fold = self._begin(saga_id)
            if fields.version > fold.version:
                spans += self._taken(fold, fields)
            self._folds.move_to_end(saga_id)
            if fields.type in _ENDS:
                ended.append(saga_id)
        for saga_id in ended:
            self._folds.pop(saga_id, None)
        while len(self._folds) > self._sagas_max:
            self._folds.popitem(last=False)
        return spans

    def _taken(self, fold: SagaSpans, fields: Fields) -> list[Span]:
        """The spans of a record. One that cannot be read costs its own spans, and nobody else's."""
        try:
            return fold.take(fields)
        except Exception as error:
            log.error("a record makes no span", saga=fold.saga_id, version=fields.version, reason=repr(error)[:300])
            fold.version = fields.version
            return []

    def _begin(self, saga_id: str) -> SagaSpans:
        fold = self._folds[saga_id] = saga_spans(saga_id, self._topic_of, self._told.wire)
        return fold

    async def _deliver(self, spans: Sequence[Span], stopping: Stopping, pulse: Pulse) -> bool:
        body, pause_ms = self._body(spans), PAUSE_MS
        while True:
            posted = await self._sender.post(body)
            if posted.fate == "taken":
                self._say(posted.reason)
                self.sent_spans += len(spans)
                return True
            if posted.fate == "refused":
                # Sending the very same again cannot help. They can be sent again when the reason is gone.
                self.refused_spans += len(spans)
                self._say(posted.reason)
                return True
            self._say(posted.reason)
            if stopping:
                return False
            pulse.beat()
            await stopping.sleep(max(posted.after_seconds * 1000, pause_ms))
            pause_ms = min(pause_ms * 2, PAUSE_MS_MAX)
            if not await self._hold():
                return False
            await self._limit_backlog()

    def _body(self, spans: Sequence[Span]) -> bytes:
        """The request for these spans; without those that cannot be written down, which else held up all others."""
        try:
            return encoded([(self._told.resource, spans)])
        except Exception:
            good = []
            for span in spans:
                try:
                    encoded_span(span)
                except Exception as error:
                    log.error("a span cannot be written down", span=span.name[:100], reason=repr(error)[:300])
                    self.refused_spans += 1
                else:
                    good.append(span)
            return encoded([(self._told.resource, good)])

    async def _hold(self) -> bool:
        now = time.monotonic()
        if now >= self._held_until:
            if not await self._store.hold(self._who, HOLD_MS, self._told):
                self._folds.clear()  # another process goes on: what is known here falls behind
                return False
            self._held_until = now + HOLD_MS / 2000
        return True

    async def _limit_backlog(self) -> None:
        now = time.monotonic()
        if now - self._looked_at_backlog < GIVE_UP_EVERY_SECONDS:
            return
        self._looked_at_backlog = now
        gone = await self._store.give_up(self._backlog_max)
        if gone:
            self.given_up_batches += gone
            log.error("spans given up: the collector was away for too long", batches=gone, again="traces emit")

    def _say(self, reason: str) -> None:
        if reason != self.trouble:
            if reason:
                log.warning("the collector does not take spans", reason=reason)
            else:
                log.info("the collector takes spans again")
        self.trouble = reason


class BacklogLimit:
    """For a process that notes batches and does not send: should nobody send, what waits keeps its limit as well."""

    def __init__(self, store: TraceStore, backlog_batches_max: int) -> None:
        self._store, self._max = store, backlog_batches_max
        self.given_up_batches = 0

    def facts(self) -> dict[str, int]:
        """Sizes and counts by name."""
        return {"trace_batches_given_up": self.given_up_batches}

    async def run(self, stopping: Stopping, pulse: Pulse) -> None:
        """Looks now and then."""
        look_at = 0.0
        while not stopping:
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + GIVE_UP_EVERY_SECONDS
                try:
                    await self.look()
                except Exception as error:  # the store is away, or will not: spans never end a process
                    log.info("what waits to become spans cannot be looked at", reason=str(error)[:200])
            pulse.beat()
            await stopping.sleep(PAUSE_MS)

    async def look(self) -> None:
        """Gives up what is beyond the limit. Raises StoreError."""
        if gone := await self._store.give_up(self._max):
            self.given_up_batches += gone
            log.error("spans given up: is there no process with the role traces?", batches=gone)


_ENDS = frozenset({"saga.completed", "saga.compensated", "saga.tombstoned"})
