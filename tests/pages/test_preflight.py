"""Live sagas walked through another version of theirs: the same, different at a step, or in need of a mapping."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest

from orchestrator.definition.stored import graph_of
from orchestrator.kernel.graph import Graph
from orchestrator.pages.drawing.history import History
from orchestrator.pages.preflight import walk
from tests.pages.office import ADA, OfficeProduct

pytestmark = pytest.mark.asyncio(loop_scope="module")

Change = Callable[[dict[str, Any]], None]


def text(page: str) -> str:
    """What a page says, without markup."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


def path_of(nodes: dict[str, Any], name: str) -> str:
    """The path of a node by its last name."""
    return next(path for path in nodes if path.rpartition("/")[2] == name)


def changed(office: OfficeProduct, *changes: Change) -> tuple[Graph, Any]:
    """The wire as another version would have it, and its stored form."""
    installed = office.runtime.catalog.sagas[("wire", 1)]
    data = copy.deepcopy(installed.graph.data)
    for change in changes:
        change(data["nodes"])
    return graph_of(data), data


def patient_hold(nodes: dict[str, Any]) -> None:
    """The first step is tried more often."""
    nodes["hold"]["retry"] = {"attempts": 9}


def other_send(nodes: dict[str, Any]) -> None:
    """The last step waits longer."""
    nodes[path_of(nodes, "send")]["within_ms"] = 60_000


def no_approval(nodes: dict[str, Any]) -> None:
    """The task has another name, and so another path."""
    renamed = json.loads(json.dumps(nodes).replace("needs_approval/approve", "needs_approval/sign_off"))
    renamed["needs_approval/sign_off"]["name"] = "sign_off"
    nodes.clear()
    nodes.update(renamed)


async def walked(office: OfficeProduct, state: str, *changes: Change) -> tuple[str, str, bool]:
    """How one saga of the office fares."""
    records = await office.engine.records(office.sagas[state], ADA)
    found = walk(History.of(records), changed(office)[0], changed(office, *changes)[0])
    return found.verdict, found.node.rpartition("/")[2], found.is_ahead


async def test_a_saga_is_the_same_where_nothing_behind_it_has_changed(office: OfficeProduct) -> None:
    """What lies ahead is counted, and makes nobody different."""
    assert await walked(office, "waiting") == ("same", "", False)
    assert await walked(office, "waiting", other_send) == ("same", "", True)
    assert await walked(office, "completed", other_send) == ("differs", "send", False)


async def test_it_differs_at_the_first_thing_that_it_has_passed_and_that_changed(office: OfficeProduct) -> None:
    """The first of several, in its own order."""
    assert await walked(office, "waiting", other_send, patient_hold) == ("differs", "hold", False)
    assert await walked(office, "completed", other_send, patient_hold) == ("differs", "hold", False)


async def test_it_needs_a_mapping_where_it_stands_at_something_that_is_gone(office: OfficeProduct) -> None:
    """That counts more than anything behind it; who stands elsewhere is not concerned."""
    assert await walked(office, "waiting", no_approval, patient_hold) == ("lost", "approve", False)
    assert (await walked(office, "event", no_approval))[0] == "same"


async def test_the_page_counts_every_live_saga(office: OfficeProduct) -> None:
    """In one sentence, with what changed, and where to look."""
    for version, changes in ((2, (patient_hold,)), (3, (no_approval,)), (4, (other_send,))):
        _, data = changed(office, *changes)
        await office.runtime.store.register_definition("wire", version, f"{version:064x}", data)
    live = len([name for name in office.sagas if name not in ("completed", "compensated")])
    differ = text((await office.get("/office/definitions/wire/preflight?from=1&to=2")).text)
    assert f"{live} live: 0 same · {live} differ at hold" in differ
    assert "hold: retry was" in differ
    lost = (await office.get("/office/definitions/wire/preflight?from=1&to=3")).text
    assert "1 need a mapping at approve" in text(lost)
    assert f"/office/sagas/{office.sagas['waiting']}" in lost
    ahead = text((await office.get("/office/definitions/wire/preflight?from=1&to=4")).text)
    assert "something that lies ahead" in ahead
    assert "Walk each of them through v2" in text((await office.get("/office/definitions/wire/diff?from=1&to=2")).text)
    assert (await office.get("/office/definitions/wire/preflight?from=1&to=9")).status_code == 404
