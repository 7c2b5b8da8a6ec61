"""What operators' and auditors' pages read beside the engine: stored definitions, groups of stuck sagas, numbers.

Rules of this file
- Everything is as of one tenant, the actor's. Nothing here writes; acts go through the engine.
- A definition is read from the store, so that a version whose code is gone is drawn and compared like any other. It
  never changes once stored, and is kept in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import Depends, Request

from orchestrator.api.engine import EngineOf
from orchestrator.api.problems import ProblemError
from orchestrator.api.reading import Reading
from orchestrator.api.times import instant
from orchestrator.api.views import Actor, RecordView
from orchestrator.config import Settings
from orchestrator.definition.stored import graph_of
from orchestrator.kernel.graph import Graph
from orchestrator.kernel.state import State
from orchestrator.messages import Event
from orchestrator.pages.causes import STREAM_RECORDS_MAX, Causes
from orchestrator.pages.log_looks import LogLooks
from orchestrator.runtime import parts
from orchestrator.runtime.app import Health, Runtime
from orchestrator.runtime.identity import trace_id_of
from orchestrator.store.bulk import Bulk
from orchestrator.store.chain import Flaw
from orchestrator.store.contract import EarlyEvent, StoredRecord
from orchestrator.store.finding import Finding
from orchestrator.store.operations import STREAMS_MAX, Facet, LivePlace, OperationQueries, Waiting
from orchestrator.store.queries import Backlog, BadCursorError, ReadQueries, SagaFilter, StoredDefinition
from orchestrator.tracing.again import Again, Emitted
from orchestrator.tracing.store import TraceStore
from orchestrator.vault.repeating import refusal_text, repeating_of
from projections.models import Models


class Office:
    """The readings of one process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._queries = ReadQueries(runtime.store.pools)
        self._operations = OperationQueries(runtime.store.pools)
        self._read = Reading(runtime.store)
        self._graphs: dict[tuple[str, int], Graph] = {}
        self.log = LogLooks(runtime.broker, self._operations, runtime.vault)
        self.causes = Causes(self._read, self._operations)
        self.bulk = Bulk(runtime.store.pools)
        self.finding = Finding(runtime.store.pools, trace_id_of)
        self._repeating = repeating_of(runtime)

    @property
    def settings(self) -> Settings:
        """The settings of this process; secrets are never shown."""
        return self._runtime.settings

    def health(self) -> Health:
        """How the loops of this process are."""
        return self._runtime.health()

    def is_installed(self, name: str, version: int) -> bool:
        """Whether the code of this version is here."""
        return self._runtime.catalog.program(name, version) is not None

    async def repeats(self, actor: Actor, sagas: Sequence[str], text: str) -> str:
        """Why a reason that is kept in the clear beside these sagas is not taken; "" where it names nobody."""
        fields = await self._repeating.fields(actor.tenant, sagas, text) if self._repeating is not None else []
        return refusal_text("The reason", fields) if fields else ""

    def contexts(self) -> Mapping[str, str]:
        """The topic context of each installed type of event."""
        return {one.wire_name: one.context for one in self._runtime.catalog.registry if issubclass(one, Event)}

    async def catch_up(self) -> None:
        """Lets what is found by ids from elsewhere reach what is committed now, up to a limit."""
        await self._runtime.store.seal()
        await self.finding.catch_up()

    @property
    def sends_traces(self) -> bool:
        """Whether this process knows a collector."""
        return bool(self._runtime.telemetry.traces_url)

    async def send_trace(self, actor: Actor, saga_id: str) -> int:
        """Sends a saga's spans to the collector again; how many. Raises CollectorError."""
        done = Emitted()
        again = Again(
            TraceStore(self._runtime.store),
            self._runtime.telemetry,
            parts.event_topics(self._runtime.catalog),
            parts.wire(self._runtime.settings),
        )
        try:
            await again.saga(actor.tenant, saga_id, done)
        finally:
            again.close()
        return done.spans

    def waiters(self, type_: str) -> Sequence[str]:
        """The sagas that a message of this type may start, and those that may wait for it."""
        routes = self._runtime.catalog.routes
        return sorted({*routes.starts.get(type_, ()), *routes.awaiters.get(type_, ())})

    async def graph(self, name: str, version: int) -> Graph | None:
        """A definition as it was stored, or None."""
        known = self._graphs.get((name, version))
        if known is None:
            stored = await self._queries.definition(name, version)
            if stored is None or stored.data is None:
                return None
            known = self._graphs[name, version] = graph_of(stored.data)
        return known

    async def definitions(self) -> Sequence[StoredDefinition]:
        """Every definition that was ever registered, by name and version."""
        return await self._queries.definitions()

    async def verify(self, actor: Actor, saga_id: str) -> Flaw | None:
        """The first record of a saga that is not as it was written, or None."""
        return await self._queries.verify(actor.tenant, saga_id)

    async def facets(self, actor: Actor) -> Sequence[Facet]:
        """How the newest sagas divide."""
        return await self._operations.facets(actor.tenant)

    async def waiting(self, actor: Actor) -> Waiting:
        """How much work there is for operators."""
        return await self._operations.waiting(actor.tenant)

    async def live_by_place(self, actor: Actor, name: str) -> Sequence[LivePlace]:
        """Where the live sagas of a definition stand."""
        return await self._operations.live_by_place(actor.tenant, name)

    async def live(
        self, actor: Actor, name: str, version: int, most: int
    ) -> tuple[Sequence[tuple[str, list[RecordView]]], bool]:
        """The live sagas of a version with their records, newest first, `most` at most; and whether these are all."""
        wanted = SagaFilter(name=name, definition_version=version, ended=False)
        found: list[tuple[str, list[RecordView]]] = []
        cursor = ""
        while len(found) < most:
            page = await self._queries.sagas(actor.tenant, wanted, limit=STREAMS_MAX, cursor=cursor)
            short = [row.saga_id for row in page.items if row.version <= STREAM_RECORDS_MAX]
            streams = await self._operations.streams(actor.tenant, short)
            found += [(saga_id, [_as_stored(one) for one in stored]) for saga_id, stored in streams.items()]
            cursor = page.next
            if not cursor:
                break
        return found[:most], not cursor

    async def early(self, actor: Actor, cursor: str = "") -> tuple[Sequence[EarlyEvent], str]:
        """Events that nobody waited for when they came, and the cursor of the next page. Raises ProblemError."""
        with own_cursor():
            found = await self._queries.early_events(actor.tenant, limit=50, cursor=cursor)
        return found.items, found.next

    async def backlog(self) -> Backlog:
        """What waits to be sent, fired, resumed, sealed or looked at."""
        return await self._queries.backlog()

    async def positions(self) -> Sequence[Any]:
        """Where each partition is read on."""
        return await self._queries.positions()

    async def state(self, actor: Actor, saga_id: str) -> State:
        """A saga's state, folded from its records. Raises RefusedError `not_found`."""
        return (await self._read.state(actor.tenant, saga_id))[0]


def _as_stored(record: StoredRecord) -> RecordView:
    """A record as it lies in its stream: enough to walk it, and what is sealed in it stays so."""
    return RecordView(
        record.saga_id, record.version, record.type, record.activity, record.data, record.actor,
        instant(record.recorded_at),
    )  # fmt: skip


@contextmanager
def own_cursor() -> Iterator[None]:
    """Around a question with a cursor from an address: one that is not ours is a bad request, not a bug."""
    try:
        yield
    except BadCursorError as error:
        raise ProblemError("bad_cursor", str(error)) from error


def models_of(engine: EngineOf) -> Models:
    """The read models."""
    return engine.models


def office_of(request: Request) -> Office:
    """The readings of the application that serves this request."""
    found: Office = request.app.state.office
    return found


ModelsOf = Annotated[Models, Depends(models_of)]
OfficeOf = Annotated[Office, Depends(office_of)]
