"""A running product with sagas in every state, for the tests of operators' and auditors' pages.

Rules of this file
- It is the shipped product behind real HTTP; the sagas got where they are by messages and acts, never by writing rows.
- One is shared by all tests of a module: a test that moves a saga begins one of its own.
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import unescape
from typing import Any

import httpx2
from fastapi import FastAPI

from orchestrator import Saga
from orchestrator.api.app import create_app
from orchestrator.api.engine import Engine
from orchestrator.api.server import ApiServer
from orchestrator.api.views import Actor
from orchestrator.broker.contract import OutgoingMessage
from orchestrator.cli.serving import migrate_schema
from orchestrator.config import load_settings
from orchestrator.identity.rules import EVERYBODY_BUT_ADMIN
from orchestrator.participants import Participant
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from tests.databases import Database
from tests.pages.wires_saga import wire, wires_desk

SECONDS_MAX = 20
ADA = Actor("ada", ("manager",), "header-on-loopback", capacities=EVERYBODY_BUT_ADMIN)
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)"')


@dataclass
class OfficeProduct:
    """A running product and a client of it. `sagas`: the id of one in each state."""

    runtime: Runtime
    engine: Engine
    url: str
    client: httpx2.AsyncClient
    app: FastAPI
    sagas: dict[str, str] = field(default_factory=dict[str, str])

    async def get(self, path: str, actor: str = "ada", roles: str = "") -> httpx2.Response:
        """A page as somebody."""
        return await self.client.get(path, headers=_headers(actor, roles))

    async def post(self, path: str, form: Mapping[str, str], actor: str = "ada", roles: str = "") -> httpx2.Response:
        """A form as somebody."""
        return await self.client.post(path, data=dict(form), headers={**_headers(actor, roles), "Origin": self.url})

    async def form(self, path: str, actor: str = "ada", **fields: str) -> httpx2.Response:
        """Opens a page, fills in its form, and sends it with everything that it carries."""
        shown = await self.get(path, actor)
        hidden = {name: unescape(value) for name, value in _HIDDEN.findall(shown.text)}
        return await self.post(path.partition("?")[0], {**hidden, **fields}, actor)

    async def begin(self, mood: str = "", *, amount: str = "6000", key: str = "", requester: str = "ravi") -> str:
        """Starts a wire and waits until it rests; gives its id."""
        body = {
            "wire_id": key or f"W-{uuid.uuid4().hex[:8]}", "customer_id": "CUST00012", "requester": requester,
            "amount": amount, "mood": mood,
        }  # fmt: skip
        started = await self.engine.start("wire", body, ADA)
        if mood in ("bug", "lost"):
            await self.until(started.saga_id, lambda saga: saga.stuck)
        elif mood == "wait":
            await self.until(started.saga_id, lambda saga: saga.waiting_for.startswith("wait "))
        else:
            await self.engine.settled(started.saga_id, seconds_max=SECONDS_MAX, tenant="main")
        return started.saga_id

    async def until(self, saga_id: str, fits: Any) -> Any:
        """The saga once it fits. Raises TimeoutError."""
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                saga = await self.engine.saga(saga_id, ADA)
                if fits(saga):
                    return saga
                await asyncio.sleep(0.02)

    async def until_page(self, path: str, fits: Callable[[str], bool]) -> str:
        """The text of a page once it fits. Raises TimeoutError."""
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                page = (await self.get(path)).text
                if fits(page):
                    return page
                await asyncio.sleep(0.02)

    async def decide(self, saga_id: str, outcome: str, actor: str = "maria") -> None:
        """A manager's vote."""
        (task,) = await self.engine.tasks(saga_id=saga_id, tenant="main")
        voter = Actor(actor, ("manager",), "test", capacities=frozenset({"approver"}))
        await self.engine.vote(task.id, {"outcome": outcome}, task.subject_hash, voter)

    async def poison(self, value: bytes = b"{nonsense", type_: str = "wires.WireRequested") -> int:
        """A message that nobody can read comes in; gives the id of its dead letter."""
        before = (await self.engine.letters(ADA, limit=1)).items
        headers = [("content-type", b"application/json"), ("ce_type", type_.encode())]
        headers += [("ce_id", uuid.uuid4().hex.encode())]
        headers += [("ce_source", b"/upstream/tests"), ("ce_specversion", b"1.0")]
        producer = self.runtime.broker.producer("tests")
        await producer.start()
        assert await producer.send([OutgoingMessage("wires.events", b"k-1", value, tuple(headers))]) == [None]
        await producer.stop()
        async with asyncio.timeout(SECONDS_MAX):
            while True:
                letters = (await self.engine.letters(ADA, limit=1)).items
                if letters and letters != before:
                    return letters[0].id
                await asyncio.sleep(0.05)

    async def stage(self) -> None:
        """One saga in every state."""
        moods = {"waiting": "", "event": "wait", "stuck": "bug", "unknown": "lost", "completed": "auto"}
        for name, mood in moods.items():
            self.sagas[name] = await self.begin(mood, key=f"{name}-1")
        self.sagas["compensated"] = await self.begin("", key="compensated-1")
        await self.decide(self.sagas["compensated"], "reject")
        self.sagas["undo"] = await self.begin("no-undo", key="undo-1")
        await self.decide(self.sagas["undo"], "reject")
        await self.until(self.sagas["compensated"], lambda saga: saga.phase == "compensated")
        await self.until(self.sagas["undo"], lambda saga: saga.stuck)


def _headers(actor: str, roles: str) -> dict[str, str]:
    return {"X-Actor": actor, **({"X-Actor-Roles": roles} if roles else {})}


@asynccontextmanager
async def office_product(
    database: Database,
    port: int = 0,
    also: tuple[Saga, Participant] | None = None,
    installed: Sequence[Saga] = (wire,),
    **settings: Any,
) -> AsyncIterator[OfficeProduct]:
    """The running product, not staged yet. `also`: one more saga, and who obeys it."""
    catalog = Catalog.of([*installed, *(also or ())[:1]], [wires_desk, *(also or ())[1:]])
    await migrate_schema(database.migrate_url, [one.own_schema for one in catalog.participants])
    # Its loops stand still whenever other tests have the thread: that ends no process here.
    given = {"sagas": "tests.pages.wires_saga", "topic_partitions": 2, "stall_exit_ms": 0, **settings}
    loaded = load_settings(database_url=database.url, **given)
    runtime = Runtime(loaded, catalog=catalog)
    async with runtime:
        app = create_app(runtime)
        async with ApiServer(app, "127.0.0.1", port) as server:
            running = asyncio.create_task(runtime.run())
            try:
                async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
                    yield OfficeProduct(runtime, app.state.engine, server.url, client, app)
            finally:
                await server.stop()
                runtime.stop()
                await running
