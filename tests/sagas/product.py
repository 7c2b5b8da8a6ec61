"""The whole product with some of the bundled sagas, over HTTP, for the tests of one module."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

from orchestrator.api.app import create_app
from orchestrator.api.engine import Engine
from orchestrator.api.server import ApiServer
from orchestrator.cli.serving import migrate_schema
from orchestrator.config import load_settings
from orchestrator.participants import Participant, Pool, open_pool
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from tests.databases import Database

SECONDS_MAX = 30


@dataclass
class Product:
    """A running product and a client of it."""

    client: httpx2.AsyncClient
    engine: Engine
    pool: Pool

    async def get(self, path: str, by: str, *roles: str, **params: Any) -> httpx2.Response:
        return await self.client.get(path, params=params, headers=_who(by, roles))

    async def post(self, path: str, by: str, *roles: str, body: Any = None, key: str | None = None) -> httpx2.Response:
        headers = _who(by, roles) | ({"Idempotency-Key": key} if key else {})
        return await self.client.post(path, json={} if body is None else body, headers=headers)

    async def say(self, type_: str, data: dict[str, Any]) -> None:
        """Another system publishes a domain event."""
        event = {"specversion": "1.0", "id": uuid.uuid4().hex, "source": "/elsewhere", "type": type_, "data": data}
        headers = _who("elsewhere", ["service"]) | {"Content-Type": "application/cloudevents+json"}
        answer = await self.client.post("/v1/events", content=json.dumps(event), headers=headers)
        assert answer.status_code == 202, answer.text

    async def task(self, business_key: str, name: str) -> dict[str, Any]:
        """The open task of this name, once it is there."""
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                saga = await self.engine.find(business_key, tenant="main")
                if saga is not None:
                    found = await self.get("/v1/tasks", "test", saga=saga.saga_id)
                    assert found.status_code == 200, found.text
                    for task in found.json()["items"]:
                        if task["activity"].rpartition("/")[2] == name:
                            shown: dict[str, Any] = task
                            return shown
                await asyncio.sleep(0.02)

    async def decide(
        self, task: dict[str, Any], outcome: str, by: str, *roles: str, reason: str = "", **form: Any
    ) -> httpx2.Response:
        """Votes as this person. The capacity to approve comes with any role of theirs."""
        body = {"outcome": outcome, "form": form, "reason": reason, "subjectHash": task["subjectHash"]}
        return await self.post(f"/v1/tasks/{task['id']}/decide", by, "approver", *roles, body=body)

    async def until(self, look: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
        """What `look` gives (an answer's JSON), once it is as wanted."""
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                answer = await look()
                if answer.status_code == 200 and wanted(answer.json()):
                    return answer.json()
                await asyncio.sleep(0.02)

    async def over(self, business_key: str) -> str:
        """The phase in which a saga ended."""
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                saga = await self.engine.find(business_key, tenant="main")
                assert saga is None or not saga.stuck, saga
                if saga is not None and saga.ended:
                    return saga.phase
                await asyncio.sleep(0.02)

    async def rows(self, participant: Participant, query: str, *arguments: object) -> list[dict[str, Any]]:
        """Rows of a participant's own schema."""
        async with participant.own_schema.transaction(self.pool) as connection:
            return [dict(row) for row in await connection.fetch(query, *arguments)]


@asynccontextmanager
async def running_product(
    database: Database, package: str, sagas: Sequence[Any], workers: Sequence[Participant]
) -> AsyncIterator[Product]:
    """The product with these sagas alone; stopped at the end, whatever happens."""
    await migrate_schema(database.migrate_url, [worker.own_schema for worker in workers])
    settings = load_settings(database_url=database.url, sagas=package, topic_partitions=2, stall_exit_ms=0)
    runtime = Runtime(settings, catalog=Catalog.of(sagas, workers))
    async with runtime:
        app = create_app(runtime)
        async with ApiServer(app, "127.0.0.1", 0) as server, open_pool(database.url, 2) as pool:
            running = asyncio.create_task(runtime.run())
            try:
                async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
                    yield Product(client, app.state.engine, pool)
            finally:
                await server.stop()
                runtime.stop()
                await running


def _who(by: str, roles: Sequence[str]) -> dict[str, str]:
    return {"X-Actor": by, "X-Actor-Roles": ",".join(roles)}
