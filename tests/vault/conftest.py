"""A product with a vault behind real HTTP, and eyes for everything that it leaves anywhere."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest_asyncio

from orchestrator.api.app import create_app
from orchestrator.api.engine import Engine
from orchestrator.api.server import ApiServer
from orchestrator.cli.serving import migrate_schema
from orchestrator.config import load_settings
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from orchestrator.vault import keyfile
from tests.databases import Database
from tests.vault.care import care, visits
from tests.vault.leaks import Sent, told_to_a_collector

SECONDS_MAX = 30


@dataclass
class Care:
    """A running product, a client of it, and its database as its owner sees it."""

    runtime: Runtime
    engine: Engine
    client: httpx2.AsyncClient
    database: Database
    key_file: Path
    sent: Sent | None = None

    async def get(self, path: str, actor: str = "ada", **params: Any) -> httpx2.Response:
        """GET as somebody."""
        return await self.client.get(path, params=params, headers={"X-Actor": actor, "X-Actor-Roles": "nurse"})

    async def post(self, path: str, body: Any = None, *, actor: str = "ada") -> httpx2.Response:
        """POST as somebody, who is a nurse."""
        headers = {"X-Actor": actor, "X-Actor-Roles": "nurse", "Idempotency-Key": f'"{uuid.uuid4()}"'}
        return await self.client.post(path, json={} if body is None else body, headers=headers)

    async def publish(self, type_: str, data: dict[str, Any]) -> None:
        """An upstream tells something through HTTP."""
        event = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": "/test", "type": type_, "data": data}
        headers = {"X-Actor": "ada", "Content-Type": "application/cloudevents+json"}
        answer = await self.client.post("/v1/events", json=event, headers=headers)
        assert answer.status_code == 202, answer.text

    async def until(self, key: str, wanted: str) -> dict[str, Any]:
        """The saga of this business key once it is in this phase, or "stuck", or waits for this place."""
        detail: dict[str, Any] = {}
        for _ in range(SECONDS_MAX * 50):
            answer = await self.get(f"/v1/sagas/{key}")
            if answer.status_code == 200:
                detail = answer.json()
                saga = detail["saga"]
                if wanted == saga["phase"] or (
                    detail["stuckPlaces"] if wanted == "stuck" else wanted in detail["state"]
                ):
                    return detail
            await asyncio.sleep(0.02)
        raise AssertionError(f"{key} is not {wanted}: {detail}")

    async def approve(self, key: str, **more: Any) -> dict[str, Any]:
        """Somebody looks at the task, comments it, and approves; gives the task as it was shown."""
        detail = await self.until(key, "approve")
        (item,) = (await self.get("/v1/tasks", saga=detail["saga"]["sagaId"])).json()["items"]
        task: dict[str, Any] = (await self.get(f"/v1/tasks/{item['id']}", actor="nora")).json()
        body = {"outcome": "approve", "subjectHash": task["subjectHash"], "reason": "fine", **more}
        answer = await self.post(f"/v1/tasks/{item['id']}/decide", body, actor="nora")
        assert answer.status_code == 200, answer.text
        await self.until(key, "completed")
        return task

    async def dump(self) -> dict[str, str]:
        """Every row of every table of the product, as text; participants' own tables are not the product's."""
        connection = await asyncpg.connect(self.database.admin_url)
        try:
            tables = await connection.fetch(
                "SELECT n.nspname || '.' || c.relname AS name"
                " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relkind IN ('r', 'p', 'm') AND n.nspname NOT IN ('pg_catalog', 'information_schema')"
            )
            found = {}
            for (name,) in tables:
                rows = await connection.fetch(f"SELECT * FROM {name}")
                found[name] = "\n".join(_text(value) for row in rows for value in row.values())
            return found
        finally:
            await connection.close()

    async def settled(self) -> None:
        """Read models and the log's positions have caught up."""
        await asyncio.sleep(1)


def _text(value: Any) -> str:
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).decode("utf-8", "replace") + bytes(value).decode("utf-16", "replace")
    return str(value)


@asynccontextmanager
async def at_work(database: Database, key_file: Path, **settings: Any) -> AsyncIterator[Care]:
    """A product with all roles."""
    await migrate_schema(database.migrate_url, [visits.own_schema])
    given = {
        "database_url": database.url,
        "sagas": "tests.vault",
        "topic_partitions": 2,
        "stall_exit_ms": 0,  # see tests/api
        "records_topic": "all.records",
    }
    made = load_settings(**(given | {"vault_key_file": str(key_file)} | settings))
    runtime = Runtime(made, catalog=Catalog.of([care], [visits]))
    async with runtime:
        app = create_app(runtime)
        async with ApiServer(app, "127.0.0.1", 0) as server:
            running = asyncio.create_task(runtime.run())
            try:
                async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
                    yield Care(runtime, app.state.engine, client, database, key_file)
            finally:
                await server.stop()
                runtime.stop()
                await running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def product(module_database: Database, tmp_path_factory: Any) -> AsyncIterator[Care]:
    """The running product of a module, which tells a collector everything."""
    path = tmp_path_factory.mktemp("keys") / "vault.keys"
    keyfile.create(path)
    with told_to_a_collector() as sent:
        async with at_work(module_database, path) as made:
            made.sent = sent
            yield made
