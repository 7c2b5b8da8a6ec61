"""A whole product behind real HTTP, for the tests of one file: all roles, the log in PostgreSQL, one saga."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest_asyncio

from orchestrator.api.app import create_app
from orchestrator.api.engine import Engine
from orchestrator.api.server import ApiServer
from orchestrator.cli.serving import migrate_schema
from orchestrator.config import load_settings
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from tests.api.payout import desk, payout
from tests.databases import Database

SETTLE_SECONDS_MAX = 60


@dataclass
class Product:
    """A running product and a client of it."""

    runtime: Runtime
    engine: Engine
    url: str
    client: httpx2.AsyncClient

    async def get(self, path: str, actor: str = "ada", **params: Any) -> httpx2.Response:
        """GET as somebody."""
        return await self.client.get(path, params=params, headers={"X-Actor": actor})

    async def post(
        self, path: str, body: Any = None, *, actor: str = "ada", roles: str = "", key: str | None = None
    ) -> httpx2.Response:
        """POST as somebody, with a new idempotency key unless one is given."""
        headers = {"X-Actor": actor, "X-Actor-Roles": roles, "Idempotency-Key": f'"{key or uuid.uuid4()}"'}
        return await self.client.post(path, json={} if body is None else body, headers=headers)

    async def start(self, mood: str = "", amount: str = "10", requester: str = "ravi") -> str:
        """Starts a payout and waits until it rests; gives its id."""
        body = {"payout_id": str(uuid.uuid4()), "requester": requester, "amount": amount, "mood": mood}
        answer = await self.post("/v1/sagas/payout", body)
        assert answer.status_code == 201, answer.text
        saga_id: str = answer.json()["sagaId"]
        await self.engine.settled(saga_id, seconds_max=SETTLE_SECONDS_MAX, tenant="main")
        return saga_id

    async def task_of(self, saga_id: str) -> dict[str, Any]:
        """The open task of a saga, as shown."""
        (item,) = (await self.get("/v1/tasks", saga=saga_id)).json()["items"]
        shown: dict[str, Any] = (await self.get(f"/v1/tasks/{item['id']}")).json()
        return shown

    async def until(self, saga_id: str, phase: str) -> dict[str, Any]:
        """The saga's detail once it is in this phase. Raises AssertionError after SETTLE_SECONDS_MAX."""
        detail: dict[str, Any] = {}
        async with asyncio.timeout(SETTLE_SECONDS_MAX):
            while detail.get("saga", {}).get("phase") != phase:
                detail = (await self.get(f"/v1/sagas/{saga_id}")).json()
                await asyncio.sleep(0.02)
        return detail

    async def until_stuck(self, saga_id: str) -> dict[str, Any]:
        """The saga's detail once a place is stuck."""
        detail: dict[str, Any] = {"stuckPlaces": []}
        async with asyncio.timeout(SETTLE_SECONDS_MAX):
            while not detail["stuckPlaces"]:
                detail = (await self.get(f"/v1/sagas/{saga_id}")).json()
                await asyncio.sleep(0.02)
        return detail

    async def versions(self, saga_id: str) -> list[str]:
        """The types of the saga's records."""
        records = (await self.get(f"/v1/sagas/{saga_id}/records")).json()["items"]
        return [record["type"] for record in records]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product(module_database: Database) -> AsyncIterator[Product]:
    """The running product."""
    catalog = Catalog.of([payout], [desk])
    await migrate_schema(module_database.migrate_url, [desk.own_schema])
    # Its loops stand still whenever other tests have the thread: that ends no process of tests.
    settings = load_settings(database_url=module_database.url, sagas="tests.api", topic_partitions=2, stall_exit_ms=0)
    runtime = Runtime(settings, catalog=catalog)
    async with runtime:
        app = create_app(runtime)
        async with ApiServer(app, "127.0.0.1", 0) as server:
            running = asyncio.create_task(runtime.run())
            async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
                yield Product(runtime, app.state.engine, server.url, client)
            await server.stop()
            runtime.stop()
            await running
