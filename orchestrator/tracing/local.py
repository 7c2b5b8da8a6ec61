"""Spans that only this process can measure (participants, HTTP requests): kept for a moment, sent in batches.

Rules of this file
- Adding a span is appending to a list: no I/O, no lock, no waiting. Beyond the limit the oldest go, and are counted.
- They hang below spans of records; what hangs below them was measured here too. They are held back for a moment, so
  that what they hang below is usually there before them. Meanwhile they are in the spool, where there is one: whoever
  comes after a process that died sends what it left, as that process's own (docs/adr/0076).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import structlog

from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.store.contract import StoreError
from orchestrator.telemetry import SERVICE_NAME
from orchestrator.tracing.requests import Requests, Served, read, written
from orchestrator.tracing.sender import Sender
from orchestrator.tracing.span import Span, encoded_span, joined
from orchestrator.tracing.spool import Left, Spool

FLUSH_MS = 1_000
POST_SPANS_MAX = 2_000
PAUSE_MS_MAX = 15_000.0
LOOK_SECONDS = 30.0
REQUEST = "?request"  # no service: a line of the spool that is to become a span yet

log = structlog.get_logger("orchestrator.traces")


class LocalSpans:
    """Spans of this process by service. `resource`: of the process; a service of its own name replaces service.name."""

    def __init__(
        self,
        sender: Sender,
        resource: Mapping[str, str],
        *,
        spans_max: int,
        requests: Requests | None = None,
        spool: Spool | None = None,
        fresh: Callable[[], Requests] | None = None,
    ) -> None:
        self._requests, self._spool, self._fresh = requests, spool, fresh
        self._sender, self._resource, self._max = sender, resource, spans_max
        self._kept: deque[tuple[str, bytes]] = deque()
        self._look_at = 0.0
        self.sent_spans = 0
        self.lost_spans = 0
        self.found_spans = 0  # of processes that died, and sent from here

    def add(self, service: str, span: Span) -> None:
        """Keeps a span for the next post. `service`: "" for the process's own."""
        try:
            line = encoded_span(span)
        except Exception as error:  # an attribute of a kind that nobody thought of
            log.error("a span cannot be written down", span=span.name[:100], reason=repr(error)[:300])
            self.lost_spans += 1
            return
        if self._spool is not None:
            self._spool.note(service, line)
        self._keep(service, line)

    def add_request(self, served: Served) -> None:
        """Keeps a request that was answered; its span is made when it is posted."""
        assert self._requests is not None
        self._requests.add(served)
        if self._spool is not None:
            self._spool.note(REQUEST, written(served))

    def _keep(self, service: str, line: bytes) -> None:
        self._kept.append((service, line))
        if len(self._kept) > self._max:
            self._kept.popleft()
            self.lost_spans += 1

    def facts(self) -> dict[str, int]:
        """Sizes and counts by name."""
        return {
            "local_spans_waiting": len(self._kept),
            "local_spans_sent": self.sent_spans,
            "local_spans_lost": self.lost_spans,
            "local_spans_found": self.found_spans,
        }

    async def run(self, stopping: Stopping, pulse: Pulse) -> None:
        """Sends what was kept, now and then; once more when asked to stop."""
        pause_ms: float = FLUSH_MS
        try:
            while not stopping:
                await stopping.sleep(pause_ms)
                taken = await self._flushed()
                pulse.beat()
                pause_ms = FLUSH_MS if taken else min(pause_ms * 2, PAUSE_MS_MAX)
            await self._flushed()
        finally:
            self._sender.close()
            if self._spool is not None:
                await self._spool.close()

    async def _flushed(self) -> bool:
        try:
            await self._look()
            return await self.flush()
        except Exception as error:  # spans never end the process that money runs through
            log.error("spans cannot be made", reason=repr(error)[:500])
            return False

    async def flush(self) -> bool:
        """Posts what is there. False where the collector does not take it now; it is kept then."""
        try:
            for span in await self._requests.spans() if self._requests is not None else ():
                self._keep("", encoded_span(span))
        except StoreError as error:
            log.info("spans of requests wait for the database", reason=str(error)[:200])
        while self._kept:
            taken = [self._kept.popleft() for _ in range(min(len(self._kept), POST_SPANS_MAX))]
            try:
                posted = await self._sender.post(_body(self._resource, taken))
            except RuntimeError as error:  # the thread is gone: the process stops
                log.info("spans are lost at the stop", reason=str(error)[:200], spans=len(taken))
                return False
            if posted.fate == "later":
                room = self._max - len(self._kept)
                self._kept.extendleft(reversed(taken[-room:] if room else []))
                self.lost_spans += max(len(taken) - room, 0)
                return False
            if posted.fate == "refused":
                self.lost_spans += len(taken)
                log.warning("the collector refuses spans", reason=posted.reason, spans=len(taken))
            else:
                self.sent_spans += len(taken)
            await asyncio.sleep(0)
        if self._spool is not None and not (self._kept or (self._requests is not None and len(self._requests))):
            self._spool.clear()
        return True

    # --- what others left --------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Sends, now and then, what processes on this machine left when they died."""
        if self._spool is None or time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + LOOK_SECONDS
        waiting = await self._spool.left()
        while waiting:
            left = waiting.pop()
            sent = False
            try:
                sent = await self._sent_of(left)
            finally:
                self._spool.release(left, sent=sent)
                if not sent:
                    for other in waiting:
                        self._spool.release(other, sent=False)
                    waiting = []

    async def _sent_of(self, left: Left) -> bool:
        """One file's spans, as its own process would have sent them. False where they cannot be sent now."""
        lines = [(service, line) for service, line in left.lines if service != REQUEST]
        if self._fresh is not None:
            requests = self._fresh()
            for service, line in left.lines:
                if service == REQUEST and (served := read(line)) is not None:
                    requests.add(served)
            try:
                lines += [("", encoded_span(span)) for span in await requests.spans()]
            except StoreError as error:
                log.info("spans of requests wait for the database", reason=str(error)[:200])
                return False
        for first in range(0, len(lines), POST_SPANS_MAX):
            taken = lines[first : first + POST_SPANS_MAX]
            posted = await self._sender.post(_body(left.resource, taken))
            if posted.fate == "later":
                return False
            self.found_spans += len(taken)
        log.info("spans of a process that died were sent", file=left.path.name, spans=len(lines))
        return True


def _body(resource: Mapping[str, str], taken: Sequence[tuple[str, bytes]]) -> bytes:
    by_service: dict[str, list[bytes]] = {}
    for service, line in taken:
        by_service.setdefault(service, []).append(line)
    return joined(
        ({**resource, SERVICE_NAME: service} if service else resource, lines) for service, lines in by_service.items()
    )
