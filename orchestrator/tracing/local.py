"""Spans that only this process can measure (participants, HTTP requests): kept for a moment, sent in batches.

Rules of this file
- Adding a span is appending to a list: no I/O, no lock, no waiting. Beyond the limit the oldest go, and are counted.
- They hang below spans of records, and are lost where the process dies before it has sent them: what hangs below them
  was measured here too. They are held back for a moment, so that what they hang below is usually there before them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping

import structlog

from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.store.contract import StoreError
from orchestrator.telemetry import SERVICE_NAME
from orchestrator.tracing.requests import Requests
from orchestrator.tracing.sender import Sender
from orchestrator.tracing.span import Span, encoded

FLUSH_MS = 1_000
POST_SPANS_MAX = 2_000
PAUSE_MS_MAX = 15_000.0

log = structlog.get_logger("orchestrator.traces")


class LocalSpans:
    """Spans of this process by service. `resource`: of the process; a service of its own name replaces service.name."""

    def __init__(
        self, sender: Sender, resource: Mapping[str, str], *, spans_max: int, requests: Requests | None = None
    ) -> None:
        self._requests = requests
        self._sender, self._resource, self._max = sender, resource, spans_max
        self._kept: deque[tuple[str, Span]] = deque()
        self.sent_spans = 0
        self.lost_spans = 0

    def add(self, service: str, span: Span) -> None:
        """Keeps a span for the next post. `service`: "" for the process's own."""
        self._kept.append((service, span))
        if len(self._kept) > self._max:
            self._kept.popleft()
            self.lost_spans += 1

    def facts(self) -> dict[str, int]:
        """Sizes and counts by name."""
        return {
            "local_spans_waiting": len(self._kept),
            "local_spans_sent": self.sent_spans,
            "local_spans_lost": self.lost_spans,
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

    async def _flushed(self) -> bool:
        try:
            return await self.flush()
        except Exception as error:  # spans never end the process that money runs through
            log.error("spans cannot be made", reason=repr(error)[:500])
            return False

    async def flush(self) -> bool:
        """Posts what is there. False where the collector does not take it now; it is kept then."""
        try:
            for span in await self._requests.spans() if self._requests is not None else ():
                self.add("", span)
        except StoreError as error:
            log.info("spans of requests wait for the database", reason=str(error)[:200])
        while self._kept:
            taken = [self._kept.popleft() for _ in range(min(len(self._kept), POST_SPANS_MAX))]
            try:
                posted = await self._sender.post(self._body(taken))
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
        return True

    def _body(self, taken: list[tuple[str, Span]]) -> bytes:
        by_service: dict[str, list[Span]] = {}
        for service, span in taken:
            by_service.setdefault(service, []).append(span)
        return encoded(
            ({**self._resource, SERVICE_NAME: service} if service else self._resource, spans)
            for service, spans in by_service.items()
        )
