"""Sending traces again from the store: one saga, or all that lived between two instants.

Rules of this file
- The spans are those that the loop sends, byte for byte, so what the collector has already it shows once: as what they
  were sent last is read from the store, and where nothing was sent yet, this process's own settings say it.
- Whether a saga is sampled does not matter here: somebody has asked for it. Spans that other processes measured are not
  in the store, and are not sent again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from orchestrator.tracing.fold import TopicOf, Wire
from orchestrator.tracing.makers import saga_spans
from orchestrator.tracing.sender import Sender
from orchestrator.tracing.settings import TelemetrySettings
from orchestrator.tracing.span import Span, encoded
from orchestrator.tracing.store import Told, TraceStore

PAGE_SAGAS = 200
POST_SPANS_MAX = 2_000


class CollectorError(Exception):
    """The collector did not take spans; the text says why."""


@dataclass(slots=True)
class Emitted:
    """What was sent."""

    sagas: int = 0
    spans: int = 0
    trace_id: str = ""


class Again:
    """Sends traces from the store."""

    def __init__(self, store: TraceStore, telemetry: TelemetrySettings, topic_of: TopicOf, wire: Wire) -> None:
        self._store, self._topic_of = store, topic_of
        self._as, self._told = Told(telemetry.resource, wire), False
        self._sender = Sender(telemetry)

    async def saga(self, tenant: str, saga_id: str, done: Emitted) -> None:
        """Sends one saga's trace. Raises CollectorError."""
        spans = await self.spans(tenant, saga_id)
        if not spans:
            return
        for first in range(0, len(spans), POST_SPANS_MAX):
            await self._post(spans[first : first + POST_SPANS_MAX])
        done.sagas, done.spans, done.trace_id = done.sagas + 1, done.spans + len(spans), spans[0].trace_id

    async def spans(self, tenant: str, saga_id: str) -> list[Span]:
        """All spans of one saga's records, in order."""
        if not self._told:
            self._as, self._told = await self._store.told_as() or self._as, True
        fold, spans = saga_spans(saga_id, self._topic_of, self._as.wire), []
        for fields in await self._store.stream(tenant, saga_id):
            spans += fold.take(fields)
        return spans

    async def between(self, tenant: str, since: int, until: int) -> AsyncIterator[str]:
        """The sagas that lived between two instants, microseconds."""
        after = ""
        while page := await self._store.sagas_between(tenant, since, until, PAGE_SAGAS, after):
            for saga_id in page:
                yield saga_id
            after = page[-1]

    def close(self) -> None:
        """Hangs up."""
        self._sender.close()

    async def _post(self, spans: Sequence[Span]) -> None:
        posted = await self._sender.post(encoded([(self._as.resource, spans)]))
        if posted.fate != "taken" or posted.reason:
            raise CollectorError(posted.reason)
