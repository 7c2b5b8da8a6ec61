"""One running product for the tests of this folder: payouts of every kind have gone through it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx2
import pytest_asyncio

from orchestrator.api.app import create_app
from orchestrator.api.server import ApiServer
from orchestrator.cli.serving import migrate_schema
from orchestrator.config import load_settings
from orchestrator.messages import CustomerView
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from orchestrator.store.postgres import PostgresStore
from projections.contract import Projection
from projections.feed import Feed
from projections.models import Models
from projections.registry import projections
from projections.runner import Runner
from tests.api.conftest import Product
from tests.api.payout import desk, payout
from tests.databases import Database

VIEW = CustomerView(
    "payout",
    title="Your payout",
    customer="requester",
    fields={"amount": "Amount"},
    steps={"reserve": "Money set aside", "approve": "A colleague looks at it", "pay": "Paid"},
    endings={"returned": "We could not pay this"},
)
CATCH_UP_SECONDS_MAX = 30


@dataclass
class Told(Product):
    """A product with what happened in it: ids of sagas by how they went."""

    sagas: dict[str, str] = field(default_factory=dict)

    @property
    def models(self) -> Models:
        """Its read models."""
        return self.engine.models

    @property
    def store(self) -> PostgresStore:
        """Its store."""
        return self.runtime.store

    async def vote(self, saga_id: str, outcome: str, actor: str = "maria", **form: str) -> int:
        """Votes on the open task of a saga; gives the record."""
        task = await self.task_of(saga_id)
        body = {"outcome": outcome, "form": form, "reason": "seen", "subjectHash": task["subjectHash"]}
        answer = await self.post(f"/v1/tasks/{task['id']}/decide", body, actor=actor, roles="approver,manager")
        assert answer.status_code == 200, answer.text
        record: int = answer.json()["record"]
        return record

    async def caught_up(self) -> None:
        """Returns when all read models hold everything that is recorded now."""
        await self.store.seal()
        head = (await self.models.states())[0].complete.head
        assert await self.models.wait_for(str(head), seconds_max=CATCH_UP_SECONDS_MAX)

    def runner(self, projection: Projection, *, batch: int = 1_000) -> Runner:
        """A runner of one projection, over this store, with a feed of its own."""
        return Runner(self.store, Feed(self.store), projection, batch_records=batch, poll_ms=10)


async def filled(told: Told) -> None:
    """Payouts of every kind: approved, rejected, expired, refused by a participant, open, and one that is stuck."""
    for how, mood, amount in (
        ("approved", "", "10"), ("rejected", "", "20"), ("open", "", "30"), ("expired", "brief", "40"),
        ("refused", "", "2000000"), ("by hand", "no-undo", "50"), ("stuck", "bug", "70"),
    ):  # fmt: skip
        told.sagas[how] = await told.start(mood, amount, requester=f"customer-{how}")
    body = {"payout_id": "waits", "requester": "customer-waits", "amount": "60", "mood": "wait"}
    told.sagas["waits"] = (await told.post("/v1/sagas/payout", body)).json()["sagaId"]  # it rests in no person's hands
    await told.vote(told.sagas["approved"], "approve")
    await told.until(told.sagas["approved"], "completed")
    await told.vote(told.sagas["rejected"], "reject")
    await told.until(told.sagas["rejected"], "compensated")
    await told.until(told.sagas["expired"], "compensated")
    await told.until(told.sagas["refused"], "compensated")
    await told.vote(told.sagas["by hand"], "reject")
    await told.until_stuck(told.sagas["by hand"])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def told(module_database: Database) -> AsyncIterator[Told]:
    """The running product with its story."""
    async with story(module_database) as product:
        yield product


@asynccontextmanager
async def story(module_database: Database) -> AsyncIterator[Told]:
    """A running product with its story, its read models up to date."""
    catalog = Catalog.of([payout], [desk], [VIEW])
    await migrate_schema(module_database.migrate_url, [desk.own_schema])
    settings = load_settings(
        database_url=module_database.url, sagas="tests.api", topic_partitions=2, projection_poll_ms=20, stall_exit_ms=0
    )
    runtime = Runtime(settings, catalog=catalog)
    async with runtime:
        app = create_app(runtime)
        async with ApiServer(app, "127.0.0.1", 0) as server:
            running = asyncio.create_task(runtime.run())
            try:
                async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
                    product = Told(runtime, app.state.engine, server.url, client)
                    await filled(product)
                    await product.caught_up()
                    yield product
            finally:
                await server.stop()
                runtime.stop()
                await running


__all__ = ["Told", "projections", "story", "told"]
