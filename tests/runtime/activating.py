"""An order in two versions under approval, and the people who activate one."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import orjson

from orchestrator import Saga, pivot, publish
from orchestrator.activation.definition import NAME, ActivateDefinition
from orchestrator.activation.keeping import Keeping
from orchestrator.activation.settings import ActivationSettings
from orchestrator.config import Settings
from orchestrator.definition.words import Path
from orchestrator.kernel.inputs import Vote
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.identity import saga_id_of
from orchestrator.runtime.work import Cause, Outcome, SagaInput
from orchestrator.store.activations import Activations
from orchestrator.store.postgres import PostgresStore
from tests.runtime.desk import Desk, Eyes
from tests.runtime.shop import OrderPlaced, charge, order, order_done, reserve, ship

FLOW_2: list[Path] = [reserve, pivot(ship), publish(order_done)]
order_2 = Saga("order", version=2, starts_on=OrderPlaced, flow=FLOW_2)
order_3 = Saga("order", version=3, starts_on=OrderPlaced, flow=[reserve, charge, publish(order_done)])

_requests = itertools.count(1)


@asynccontextmanager
async def process(url: str, *sagas: Saga, policy: str = "approval", **settings: Any) -> AsyncIterator[Desk]:
    """A process under approval, without loops. Raises CatalogError where its start is refused."""

    catalog = Catalog.of(sagas)
    async with PostgresStore(url) as store:
        given = ActivationSettings(activation=policy, **settings)  # type: ignore[arg-type]
        keeping = Keeping(catalog, Activations(store.pools), given, f"process-{next(_requests)}")
        try:
            await keeping.settle()
            await catalog.register(store)
            yield Desk(store, Settings(), catalog)
        finally:
            await keeping.close()


def request(version: int, replaces: int, **changed: Any) -> ActivateDefinition:
    """Ada asks."""
    graphs: dict[int, Any] = {1: order.graph, 2: order_2.graph, 3: order_3.graph}
    given = {
        "definition": "order", "version": version, "replaces": replaces, "hash": graphs[version].hash,
        "changes": ("charge is gone",), "changes_hash": "c0ffee", "reason": "no more charging", "asked_by": "ada",
        "approvers": "definition-approver", "within_ms": 3_600_000, "deployed_by": "dora",
    }  # fmt: skip
    return ActivateDefinition(**{**given, **changed})


async def ask(desk: Desk, version: int, replaces: int, **changed: Any) -> str:
    """Asks for a version; the id of the saga that waits for somebody to agree."""
    asked = request(version, replaces, **changed)
    run = f"/api/{next(_requests)}"
    begin = desk.router.begin(NAME, Cause("main", "person:ada"), asked.wire_name, asked.key(), asked.plain(), run)
    (outcome,) = await desk.decide(begin)
    assert outcome.fate == "applied", outcome
    return saga_id_of("main", NAME, "order", run)


async def vote_of(desk: Desk, eyes: Eyes, saga_id: str, who: str = "ben", outcome: str = "approve") -> SagaInput:
    """Somebody's vote, having seen what is shown."""
    rows = await eyes.rows("SELECT body FROM records WHERE saga_id = $1 ORDER BY version", saga_id)
    (opened,) = [body for row in rows if (body := orjson.loads(row["body"]))["type"] == "task.opened"]
    given = Vote(
        "agree_to_version", who, ("definition-approver",), {"outcome": outcome}, opened["data"]["hash"],
        desk.hints.clock.now(), reason="read it",
    )  # fmt: skip
    return SagaInput(saga_id, given, Cause("main", f"person:{who}"))


async def vote(desk: Desk, eyes: Eyes, saga_id: str, who: str = "ben", outcome: str = "approve") -> Outcome:
    """Somebody agrees, or does not, having seen what is shown."""
    (told,) = await desk.decide(await vote_of(desk, eyes, saga_id, who, outcome))
    return told


async def activated(desk: Desk, eyes: Eyes, version: int, replaces: int) -> str:
    """Two people activate a version; the id of the saga that says so."""
    saga_id = await ask(desk, version, replaces)
    told = await vote(desk, eyes, saga_id)
    assert told.fate == "applied", told
    return saga_id


async def versions(eyes: Eyes, keys: Iterable[str] = ()) -> dict[str, int]:
    """By business key: the version that an order runs on."""
    rows = await eyes.rows("SELECT business_key, definition_version FROM saga_heads WHERE name = 'order'")
    found = {row["business_key"]: row["definition_version"] for row in rows}
    return {key: found[key] for key in keys} if keys else found
