"""The page of one saga: where it stands, what happened, what it holds, what a turn back would undo, and its records.

Rules of this file
- Everything on a page is of one reading of the stream, so no tab contradicts another. A look back is the same page with
  fewer records, and says so.
- The definition is the stored one, so a saga of a version whose code is gone has its picture too.
- A part that cannot be made fails alone: a broken chain does not hide the records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import RedirectResponse, Response

from orchestrator.api.details import plan_of, state_in_words
from orchestrator.api.engine import Acting, Engine, EngineOf, may
from orchestrator.api.problems import ProblemError
from orchestrator.api.times import instant
from orchestrator.api.views import Actor, SagaView
from orchestrator.identity.rules import may as is_allowed
from orchestrator.kernel.graph import Graph
from orchestrator.pages.drawing.fields import changes, fields
from orchestrator.pages.drawing.history import History
from orchestrator.pages.drawing.messages import messages, topic_of
from orchestrator.pages.drawing.spans import span
from orchestrator.pages.drawing.standing import Mark, marks, standing_at
from orchestrator.pages.drawing.svg import draw
from orchestrator.pages.drawing.timeline import Timeline, timeline, why_waiting
from orchestrator.pages.log_looks import is_inner
from orchestrator.pages.offers import Undoing, needs, undoing
from orchestrator.pages.reading import ModelsOf, Office, OfficeOf
from orchestrator.pages.saga_words import state_of
from orchestrator.pages.site import office_router, page, query_text
from orchestrator.runtime.identity import trace_id_of
from orchestrator.tracing.again import CollectorError
from orchestrator.wording import in_words

router = office_router()

TABS = {
    "graph": "Graph", "timeline": "Timeline", "data": "Data", "undo": "Undo plan", "tasks": "Tasks",
    "messages": "Messages", "audit": "Audit",
}  # fmt: skip
RECORDS_PER_PAGE = 200
NEXT_MAX = 4
NEEDS_MAX = 20
FOLDED_MAX = 2_000

Number = Annotated[int, Query(ge=0, le=10_000_000)]
Word = Annotated[str, Query(max_length=40)]


@dataclass(frozen=True, slots=True)
class Seen:
    """One saga as it was read: the whole stream, and the part of it that is looked at."""

    saga: SagaView
    whole: History
    history: History
    graph: Graph | None
    trace_id: str
    at: datetime

    @property
    def record(self) -> int:
        """The last record that is looked at."""
        return self.history.state.version

    @property
    def is_back(self) -> bool:
        """A look back: not all records."""
        return self.record < self.whole.state.version


async def see(engine: Engine, office: Office, actor: Actor, reference: str, record: int = 0) -> Seen:
    """Reads a saga. Raises RefusedError `not_found`."""
    saga = await engine.saga(reference, actor)
    records = await engine.records(saga.saga_id, actor)
    # A long stream is folded beside the event loop, which must go on answering others.
    whole = History.of(records) if len(records) <= FOLDED_MAX else await asyncio.to_thread(History.of, records)
    history = whole
    if record and record < len(records):
        history = await asyncio.to_thread(History.of, records, record)
    graph = await office.graph(saga.name, saga.version)
    trace = trace_id_of(records[0].traceparent, saga.saga_id) if records else ""
    at = datetime.now(UTC) if history is whole or not history.records else history.records[-1].recorded_at
    return Seen(saga, whole, history, graph, trace, at)


@router.get("/sagas/{reference}", dependencies=[may("saga.read")])
async def saga(
    request: Request,
    engine: EngineOf,
    office: OfficeOf,
    models: ModelsOf,
    actor: Acting,
    reference: str,
    tab: Word = "graph",
    record: Number = 0,
    number: Annotated[int, Query(alias="page", ge=1, le=100_000)] = 1,
    failed: bool = False,
    since: Number = 0,
    said: Word = "",
) -> Response:
    """One saga."""
    seen = await see(engine, office, actor, reference, record)
    tab = tab if tab in TABS else "graph"
    facts = _head(office, actor, seen, tab)
    facts["forecast"] = await models.timelines.of(actor.tenant, seen.saga.saga_id) if not seen.is_back else None
    if tab == "graph":
        facts |= _graph(seen)
    elif tab == "timeline":
        shown = await asyncio.to_thread(timeline, seen.history, seen.at, failed_only=failed, page=number)
        facts |= {"timeline": shown, "failed": failed, "pages": _pages(seen, tab, shown, failed)}
    elif tab == "data":
        facts |= {
            "fields": fields(seen.whole.records, seen.record),
            "since": since,
            "changes": changes(seen.whole.records, since, seen.record) if since else None,
        }
    elif tab == "tasks":
        facts["tasks"] = await engine.tasks(saga_id=seen.saga.saga_id, state=None, tenant=actor.tenant)
    elif tab == "messages":
        found = messages(seen.history.records)
        facts |= _slice(seen, tab, found, number, "messages")
        contexts = office.contexts()
        facts["topics"] = {message.record: topic_of(message, contexts) for message in facts["messages"]}
        facts["is_inner"] = is_inner
    elif tab == "audit":
        facts |= _slice(seen, tab, list(seen.history.records), number, "records")
        facts |= {"flaw": await office.verify(actor, seen.saga.saga_id), "in_words": in_words}
    return page(request, actor, "sagas/page.html", said=said, **facts)


@router.get("/sagas/{reference}/live", dependencies=[may("saga.read")])
async def live(
    request: Request, engine: EngineOf, office: OfficeOf, actor: Acting, reference: str, tab: Word = "graph"
) -> Response:
    """The part of the page that follows the saga: its head, what it needs, and its graph."""
    seen = await see(engine, office, actor, reference)
    facts = _head(office, actor, seen, tab if tab in TABS else "graph") | _graph(seen)
    return page(request, actor, "sagas/_live.html", said="", **facts)


@router.post("/sagas/{reference}/trace", dependencies=[may("saga.operate")])
async def send_trace(engine: EngineOf, office: OfficeOf, actor: Acting, reference: str) -> Response:
    """Sends the saga's trace to the collector again, where that has forgotten it. Changes nothing here."""
    found = await engine.saga(reference, actor)
    if not office.sends_traces:
        raise ProblemError(
            "unavailable", "This installation sends traces nowhere: OTEL_EXPORTER_OTLP_ENDPOINT is not set."
        )
    try:
        await office.send_trace(actor, found.saga_id)
    except CollectorError as error:
        raise ProblemError("unavailable", f"The collector did not take the trace: {error}.") from error
    return RedirectResponse(f"/office/sagas/{found.saga_id}?said=traced", 303)


def _head(office: Office, actor: Actor, seen: Seen, tab: str) -> dict[str, Any]:
    """What stands on every tab."""
    state = seen.history.state
    template = office.settings.trace_url
    found = needs(state, seen.graph, office.settings.acts_of_two_people)
    may_operate = is_allowed(actor, "saga.operate") and not seen.is_back
    return {
        "seen": seen,
        "saga": seen.saga,
        "pill": state_of(seen.saga) if not seen.is_back else ("idle", "as it was"),
        "words": state_in_words(state),
        "why": _sentence(why_waiting(state)) if not state.ended else "",
        "span": span,
        "quiet_since": seen.history.records[-1].recorded_at if seen.history.records else seen.saga.updated_at,
        "next_nodes": _next(seen),
        "tab": tab,
        "tabs": [
            (label, query_text(tab=key, record=seen.record if seen.is_back else 0), key == tab, None)
            for key, label in TABS.items()
        ],
        "needs": found[:NEEDS_MAX],
        "needs_more": max(0, len(found) - NEEDS_MAX),
        "may_operate": may_operate,
        "may_send_trace": office.sends_traces and is_allowed(actor, "saga.operate") and not seen.is_back,
        "may_export": is_allowed(actor, "audit.export") and not seen.is_back,
        "may_cancel": is_allowed(actor, "saga.cancel") and not seen.is_back and state.phase == "forward",
        "undoing": undo_of(seen),
        "trace_url": template.replace("{trace_id}", seen.trace_id) if template and seen.trace_id else "",
        "deadline": instant(state.deadline) if state.deadline else None,
        "is_installed": office.is_installed(seen.saga.name, seen.saga.version),
        "start": state.start_data if isinstance(state.start_data, Mapping) else {},
    }


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _graph(seen: Seen) -> dict[str, Any]:
    found = marks(seen.graph, seen.history, seen.at) if seen.graph is not None else {}
    return {
        "marks": list(found.values()),
        "stands": standing_at(found),
        "picture": draw(seen.graph, found) if seen.graph is not None else "",
    }


def _next(seen: Seen) -> list[Mark]:
    """The next nodes of the way that the saga goes when all is well."""
    if seen.graph is None or seen.history.state.ended:
        return []
    found = marks(seen.graph, seen.history, seen.at)
    return [mark for mark in found.values() if mark.look == "next" and mark.kind != "scope"][:NEXT_MAX]


def undo_of(seen: Seen) -> Undoing:
    """What a turn back would undo, as of what is looked at."""
    state = seen.history.state
    plan = plan_of(seen.saga, state, seen.graph)["items"]
    return undoing(state, seen.graph, [(item["activity"], item["command"]) for item in plan])


def _pages(seen: Seen, tab: str, shown: Timeline, failed: bool) -> list[tuple[int, str]]:
    """(number, address) of the pages of a time line, where there is more than one."""
    if shown.pages < 2:
        return []
    record = seen.record if seen.is_back else 0
    return [(n, query_text(tab=tab, record=record, failed=failed, page=n)) for n in range(1, shown.pages + 1)]


def _slice(seen: Seen, tab: str, items: list[Any], number: int, name: str) -> dict[str, Any]:
    """A page of a list that was read as a whole."""
    pages = max(1, -(-len(items) // RECORDS_PER_PAGE))
    number = min(number, pages)
    record = seen.record if seen.is_back else 0
    links = [(n, query_text(tab=tab, record=record, page=n)) for n in range(1, pages + 1)] if pages > 1 else []
    shown = items[(number - 1) * RECORDS_PER_PAGE : number * RECORDS_PER_PAGE]
    return {name: shown, "count": len(items), "pages": links, "number": number}
