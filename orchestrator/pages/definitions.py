"""Definitions: every version that was ever registered, what lives on each, its graph, and what changed between two.

Rules of this file
- The stored form is shown, so a version whose code is gone has a page like any other, and is drawn and compared.
- Where live sagas stand is counted by place, so that whoever changes a step sees who is at it right now.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Path, Query, Request
from fastapi.responses import Response

from orchestrator.activation.asking import Asking
from orchestrator.api.definitions import AskingOf
from orchestrator.api.engine import Acting, Actor, may
from orchestrator.api.times import instant
from orchestrator.api.views import RefusedError
from orchestrator.definition.draw import describe, difference
from orchestrator.identity.rules import may as is_allowed
from orchestrator.kernel.graph import CallNode, Graph, StepNode, TaskNode, node_path
from orchestrator.pages.drawing.standing import marks
from orchestrator.pages.drawing.svg import draw
from orchestrator.pages.reading import OfficeOf
from orchestrator.pages.saga_words import place_words
from orchestrator.pages.site import office_router, page

router = office_router()

Version = Annotated[int, Path(ge=1, le=1_000_000)]
Said = Annotated[str, Query(max_length=20)]
_FIELD = re.compile(r"^(?P<what>.+?): (?P<field>.+?) was ")
_PEOPLE = frozenset({"to", "exclude", "exclude tasks", "votes", "outcomes", "rejects", "escalate", "limits", "chain"})
_POLICIES = frozenset({"retry", "within", "undo retry", "undo within", "at once", "at most", "early age", "remind"})
_MESSAGES = frozenset({"command", "participant", "reply", "undo command", "undo participant", "undo reply", "event",
                       "topic", "starts on", "amend on", "shown type", "form"})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Section:
    """Differences of one kind. `look`: added, removed or changed."""

    title: str
    look: str
    lines: Sequence[str]


def sections(before: Graph, after: Graph) -> list[Section]:
    """What changed between two versions, in words, by what it concerns."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for line in difference(before, after):
        found[_kind(line)].append(line)
    order = [
        ("Steps removed", "removed"), ("Steps added", "added"), ("Who decides", "changed"),
        ("Messages and contracts", "changed"), ("Policies and time limits", "changed"), ("Flow", "changed"),
    ]  # fmt: skip
    return [Section(title, look, found[title, look]) for title, look in order if found[title, look]]


def _kind(line: str) -> tuple[str, str]:
    if " is gone (" in line:
        return "Steps removed", "removed"
    if " is new (" in line:
        return "Steps added", "added"
    if line.startswith("contract "):
        return "Messages and contracts", "changed"
    matched = _FIELD.match(line)
    field = matched["field"] if matched else ""
    for title, names in (
        ("Who decides", _PEOPLE), ("Policies and time limits", _POLICIES), ("Messages and contracts", _MESSAGES),
    ):  # fmt: skip
        if field in names:
            return title, "changed"
    return "Flow", "changed"


def touched(before: Graph, after: Graph) -> frozenset[str]:
    """Paths of nodes of `before` that are gone or different in `after`."""
    return frozenset(
        path for path, node in before.nodes.items() if path not in after.nodes or after.nodes[path] != node
    )


@router.get("/definitions", dependencies=[may("definition.read")])
async def definitions(request: Request, office: OfficeOf, asking: AskingOf, actor: Acting) -> Response:
    """All definitions, with their versions."""
    active = await asking.active()
    live, total = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for facet in await office.facets(actor):
        total[facet.name, facet.version] += facet.sagas
        live[facet.name, facet.version] += 0 if facet.ended else facet.sagas
    rows: dict[str, list[Any]] = defaultdict(list)
    for one in await office.definitions():
        key = (one.name, one.version)
        rows[one.name].append((one, office.is_installed(*key), live[key], total[key]))
    shown = [(name, sorted(versions, key=lambda row: -row[0].version)) for name, versions in sorted(rows.items())]
    return page(request, actor, "definitions/list.html", definitions=shown, active=active, at=instant)


@router.get("/definitions/{name}/diff", dependencies=[may("definition.read")])
async def diff(
    request: Request,
    office: OfficeOf,
    actor: Acting,
    name: str,
    before: Annotated[int, Query(alias="from", ge=1, le=1_000_000)],
    after: Annotated[int, Query(alias="to", ge=1, le=1_000_000)],
) -> Response:
    """What changed between two versions, and who stands where it did."""
    old, new = await _graph(office, name, before), await _graph(office, name, after)
    changed = touched(old, new)
    places = [one for one in await office.live_by_place(actor, name) if one.version == before]
    at_changed = [one for one in places if node_path(one.waiting_for.partition(" ")[2].lstrip("!?~+-")) in changed]
    alive = sum(one.sagas for one in places)
    there = sum(one.sagas for one in at_changed)
    return page(
        request,
        actor,
        "definitions/diff.html",
        name=name,
        before=before,
        after=after,
        versions=[one.version for one in await office.definitions() if one.name == name],
        sections=sections(old, new),
        alive=alive,
        there=there,
        places=[(place_words(one.waiting_for), one.sagas) for one in at_changed],
        old_picture=draw(old, marks(old, None, datetime.now(UTC)), name="before"),
        new_picture=draw(new, marks(new, None, datetime.now(UTC)), name="after"),
    )


@router.get("/definitions/{name}/preflight", dependencies=[may("saga.read")])
async def preflight(
    request: Request,
    asking: AskingOf,
    actor: Acting,
    name: str,
    before: Annotated[int, Query(alias="from", ge=1, le=1_000_000)],
    after: Annotated[int, Query(alias="to", ge=1, le=1_000_000)],
) -> Response:
    """Every live saga of one version, walked through another one."""
    found = await asking.preflight(actor, name, before, after)
    return page(
        request, actor, "definitions/preflight.html", name=name, before=before, after=after, flight=found.flight,
        is_all=found.is_all, examples=found.examples,
    )  # fmt: skip


@router.get("/definitions/{name}/{version}", dependencies=[may("definition.read")])
async def definition(
    request: Request, office: OfficeOf, asking: AskingOf, actor: Acting, name: str, version: Version, said: Said = ""
) -> Response:
    """One version: graph, tasks, messages, what lives on it, and how it became active."""
    graph = await _graph(office, name, version)
    stored = [one for one in await office.definitions() if one.name == name]
    found = marks(graph, None, datetime.now(UTC))
    nodes = list(graph.nodes.values())
    places = [one for one in await office.live_by_place(actor, name) if one.version == version]
    return page(
        request,
        actor,
        "definitions/version.html",
        name=name,
        version=version,
        graph=graph,
        stored=next(one for one in stored if one.version == version),
        versions=sorted((one.version for one in stored), reverse=True),
        is_installed=office.is_installed(name, version),
        marks=list(found.values()),
        picture=draw(graph, found),
        tasks=[(node, describe(node)) for node in nodes if isinstance(node, TaskNode)],
        steps=[node for node in nodes if isinstance(node, StepNode)],
        calls=[node for node in nodes if isinstance(node, CallNode)],
        contracts=sorted((graph.data or {}).get("contracts", {}).items()),
        places=[(place_words(one.waiting_for), one.sagas) for one in places],
        alive=sum(one.sagas for one in places),
        at=instant,
        retry=_retry_words,
        said=said,
        **await _activation(asking, actor, name, version),
    )


async def _activation(asking: Asking, actor: Actor, name: str, version: int) -> dict[str, Any]:
    """How this version stands, and the request that waits for somebody."""
    standing = await asking.standing(actor, name)
    wanted = next(one for one in standing.versions if one.version == version)
    task = await asking.task(standing.request.saga_id) if standing.request is not None else None
    is_free = standing.activation == "approval" and standing.request is None and wanted.state != "active"
    return {
        "standing": standing, "own": wanted, "waiting_task": task,
        "can_ask": is_free and is_allowed(actor, "definition.activate"),
    }  # fmt: skip


def _retry_words(policy: Any) -> str:
    attempts = "until done" if policy.attempts == 0 else f"{policy.attempts} attempts"
    return f"{attempts}, pauses from {policy.first_ms} ms, growing by {policy.factor:g}, {policy.ceiling_ms} ms at most"


async def _graph(office: OfficeOf, name: str, version: int) -> Graph:
    graph = await office.graph(name, version)
    if graph is None:
        raise RefusedError("not_found", f"There is no definition {name[:80]!r} v{version}.")
    return graph
