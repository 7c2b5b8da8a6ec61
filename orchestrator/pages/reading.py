"""What operators' and auditors' pages read beside the engine: stored definitions, groups of stuck sagas, numbers.

Rules of this file
- Everything is as of one tenant, the actor's. Nothing here writes; acts go through the engine.
- A definition is read from the store, so that a version whose code is gone is drawn and compared like any other. It
  never changes once stored, and is kept in memory.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any

from fastapi import Depends, Request

from orchestrator.api.engine import EngineOf
from orchestrator.api.problems import ProblemError
from orchestrator.api.reading import Reading
from orchestrator.api.times import instant
from orchestrator.api.views import Actor, SagaView
from orchestrator.config import Settings
from orchestrator.definition.stored import graph_of
from orchestrator.kernel.api import fold
from orchestrator.kernel.graph import Graph, node_path
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State, Stuck
from orchestrator.messages import Event
from orchestrator.pages.drawing.standing import stuck_at
from orchestrator.pages.formats import decimal_of, is_currency
from orchestrator.pages.log_looks import LogLooks
from orchestrator.runtime.app import Health, Runtime
from orchestrator.runtime.identity import trace_id_of
from orchestrator.store.chain import Flaw
from orchestrator.store.contract import EarlyEvent
from orchestrator.store.finding import Finding
from orchestrator.store.operations import STREAMS_MAX, Facet, LivePlace, OperationQueries, Waiting
from orchestrator.store.queries import Backlog, BadCursorError, ReadQueries, StoredDefinition
from projections.models import Models

STREAM_RECORDS_MAX = 1_000  # a longer one is grouped by its place alone
_DIGITS = re.compile(r"\d+|[0-9a-f]{8}-[0-9a-f-]{27,}")


@dataclass(frozen=True, slots=True)
class StuckSaga:
    """A stuck place of a saga, since when. `path`: the node at which it is stuck."""

    saga: SagaView
    place: str
    path: str
    version: int
    reason: str
    since: datetime


@dataclass(slots=True)
class Cause:
    """Sagas that are stuck alike: same definition, place and reason. `held`: amounts of their start, by currency."""

    key: str
    name: str
    place: str
    path: str
    cause: str
    reason: str
    sagas: list[StuckSaga] = field(default_factory=list[StuckSaga])
    held: dict[str, Decimal] = field(default_factory=dict[str, Decimal])

    @property
    def first(self) -> datetime:
        """When the first of them got stuck."""
        return min(one.since for one in self.sagas)

    @property
    def last(self) -> datetime:
        """When the last of them did."""
        return max(one.since for one in self.sagas)

    @property
    def is_undo(self) -> bool:
        """It is an undo that cannot go on."""
        return self.place.startswith("~")


class Office:
    """The readings of one process."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._queries = ReadQueries(runtime.store.pools)
        self._operations = OperationQueries(runtime.store.pools)
        self._read = Reading(runtime.store)
        self._graphs: dict[tuple[str, int], Graph] = {}
        self.log = LogLooks(runtime.broker, self._operations)
        self.finding = Finding(runtime.store.pools, trace_id_of)

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

    def contexts(self) -> Mapping[str, str]:
        """The topic context of each installed type of event."""
        return {one.wire_name: one.context for one in self._runtime.catalog.registry if issubclass(one, Event)}

    async def catch_up(self) -> None:
        """Lets what is found by ids from elsewhere reach what is committed now, up to a limit."""
        await self._runtime.store.seal()
        await self.finding.catch_up()

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

    async def causes(self, actor: Actor) -> tuple[Sequence[Cause], bool]:
        """Stuck sagas by their cause, the largest first; and whether these are all of them."""
        page = await self._read.sagas(
            actor.tenant, name=None, business_key=None, phase=None, waiting_for=None, stuck=True, limit=STREAMS_MAX,
            cursor="",
        )  # fmt: skip
        short = [saga.saga_id for saga in page.items if saga.record <= STREAM_RECORDS_MAX]
        streams = await self._operations.streams(actor.tenant, short)
        causes: dict[str, Cause] = {}
        for saga in page.items:
            stored = streams.get(saga.saga_id)
            if stored:
                state = fold(Record(one.type, one.activity, one.data) for one in stored)
                written = {one.version: one.recorded_at for one in stored}
                _group(causes, saga, state, written)
            else:
                place = saga.waiting_for.removeprefix("operator ")
                unread = StuckSaga(saga, place, node_path(place[1:]), 0, "", saga.updated_at)
                _cause(causes, saga.name, unread, "").sagas.append(unread)
        ordered = sorted(causes.values(), key=lambda cause: (-len(cause.sagas), cause.first))
        return ordered, not page.next


def _group(causes: dict[str, Cause], saga: SagaView, state: State, written: Mapping[int, int]) -> None:
    for place, stuck in state.stuck.items():
        one = StuckSaga(
            saga, place, stuck_at(state, place), stuck.version, stuck.reason, instant(written.get(stuck.version, 0))
        )
        cause = _cause(causes, saga.name, one, _class_of(stuck))
        cause.sagas.append(one)
        for currency, amount in held(state.start_data):
            cause.held[currency] = cause.held.get(currency, Decimal(0)) + amount


def _cause(causes: dict[str, Cause], name: str, one: StuckSaga, class_: str) -> Cause:
    place = one.place[:1] + one.path
    alike = _DIGITS.sub("#", one.reason.splitlines()[0] if one.reason else "")
    key = "\x1f".join((name, place, class_, alike))
    return causes.setdefault(key, Cause(_short(key), name, place, one.path, class_, one.reason))


def _class_of(stuck: Stuck) -> str:
    words = {
        "function": "a function of the saga raised", "refused": "the participant refused",
        "exhausted": "no more attempts", "unknown": "outcome unknown", "never": "the participant can never know",
        "undo": "an undo did not succeed", "effect_found": "an effect was found that should not be there",
        "size": "the message is too large",
    }  # fmt: skip
    return words.get(stuck.cause, stuck.cause.replace("_", " "))


def _short(key: str) -> str:
    """A name for a group in addresses: the same group has the same name in every process."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def held(start: Any) -> list[tuple[str, Decimal]]:
    """The amount that a start message names together with its currency."""
    if not isinstance(start, Mapping):
        return []
    currency = start.get("currency")
    amount = next((decimal_of(start[name]) for name in ("amount", "total", "dispute_amount") if name in start), None)
    return [(str(currency), amount)] if amount is not None and is_currency(currency) else []


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
