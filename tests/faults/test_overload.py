"""A product that is asked for ten times what it takes says so at once, keeps what it promised, and lets people decide.

The shipped process, with limits so small that this machine reaches them. Three ways in: the API, events, the chat.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import httpx2
import pytest

from events.orders import OrderPlaced
from orchestrator.api.server import ApiServer
from orchestrator.cli.serving import migrate_schema, own_schemas
from orchestrator.runtime.catalog import Catalog
from sagas.transfers import bank
from tests.databases import Database
from tests.faults.books import Books
from tests.faults.orders import order
from tests.faults.serving import Served, served
from tests.runtime.desk import Eyes

MODULES = ("sagas.orders", "sagas.transfers")
COMMANDS_MAX, REQUESTS_MAX, UNSENT_MAX = 10, 6, 200
SLACK = 100  # what may be let in between two looks at the database, and what went before
OFFERED_TIMES = 10  # as much as is taken
REFUSALS_MIN = 300
CLIENTS = 24
IMPATIENCE_SECONDS = 0.03  # after whatever was answered; they should wait as long as Retry-After says
LOAD_SECONDS_MIN, LOAD_SECONDS_MAX = 4, 150
DRAIN_SECONDS_MAX = 60
GROWTH_BYTES_MAX = 120 * 1024 * 1024
PENDING = 4
PATIENCE = 30

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@asynccontextmanager
async def bank_and_product(database: Database, broker_url: str, logs: Path) -> AsyncIterator[Served]:
    """The bank, and one process with every role and small limits."""
    schemas = own_schemas(Catalog.load(MODULES), MODULES)
    await migrate_schema(database.migrate_url, schemas)
    await bank.SCHEMA.migrate(database.migrate_url)
    async with ApiServer(bank.create_bank(database.url), "127.0.0.1", 0) as backend:
        environment = {
            "ORCHESTRATOR_DATABASE_URL": database.url,
            "ORCHESTRATOR_BROKER_URL": broker_url,
            "ORCHESTRATOR_SAGAS": ",".join(MODULES),
            "ORCHESTRATOR_BANK_URL": backend.url,
            "ORCHESTRATOR_TOPIC_PARTITIONS": "2",
            "ORCHESTRATOR_ADMIT_COMMANDS_MAX": str(COMMANDS_MAX),
            "ORCHESTRATOR_ADMIT_REQUESTS_MAX": str(REQUESTS_MAX),
            "ORCHESTRATOR_ADMIT_UNSENT_ROWS_MAX": str(UNSENT_MAX),
            "ORCHESTRATOR_ADMIT_INTAKE_BEHIND_MS": "60000",
        }
        async with served(environment, logs) as process:
            yield process


@dataclass
class Crowd:
    """Many clients that want new sagas and do not wait. What was answered, by what was asked for."""

    client: httpx2.AsyncClient
    orders: list[str] = field(default_factory=list)  # accepted
    transfers: list[str] = field(default_factory=list)  # accepted
    refused: list[str] = field(default_factory=list)
    waits: Counter[int] = field(default_factory=Counter)  # Retry-After, seconds
    signals: Counter[str] = field(default_factory=Counter)  # what was full
    slowest_refusal: float = 0.0
    ended: bool = False

    async def one(self, way: int) -> None:
        """Asks for one saga, one way or another."""
        key = f"o-{uuid4()}"
        began = time.monotonic()
        if way == 0:
            answer = await self._chat(key)
        elif way == 1:
            answer = await self._event(key)
        else:
            answer = await self.start(key)
        if answer.status_code == 429:
            self._note(answer, key)
            self.slowest_refusal = max(self.slowest_refusal, time.monotonic() - began)
        elif way == 0:
            assert answer.status_code in (200, 202), answer.text
            self.transfers.append(answer.json()["transfer_id"])
        else:
            assert answer.status_code in (201, 202), answer.text
            self.orders.append(key)

    def _note(self, answer: httpx2.Response, key: str) -> None:
        """A refusal says when to come again, in the form that every problem has."""
        problem = answer.json()
        assert answer.headers["content-type"] == "application/problem+json"
        assert (problem["status"], problem["code"]) == (429, "too_many")
        assert problem["facts"]["level"] >= problem["facts"]["limit"] > 0
        self.signals[problem["facts"]["signal"]] += 1
        self.waits[int(answer.headers["retry-after"])] += 1
        self.refused.append(key)

    async def start(self, key: str) -> httpx2.Response:
        headers = {"X-Actor": "shop", "Idempotency-Key": key}
        return await self.client.post("/v1/sagas/order-fulfilment", content=order(key).canonical(), headers=headers)

    async def _event(self, key: str) -> httpx2.Response:
        headers = {"X-Actor": "shop", "ce-specversion": "1.0", "ce-id": key, "ce-source": "/shop"}
        headers |= {"ce-type": OrderPlaced.wire_name, "content-type": "application/json"}
        return await self.client.post("/v1/events", content=order(key).canonical(), headers=headers)

    async def _chat(self, key: str) -> httpx2.Response:
        return await chat(self.client, "Transfer 1 to Kiran", key)

    async def go_on(self, way: int) -> None:
        """Asks and asks, until told to stop."""
        while not self.ended:
            await self.one(way)
            await asyncio.sleep(IMPATIENCE_SECONDS)

    @property
    def accepted(self) -> int:
        return len(self.orders) + len(self.transfers)


async def chat(client: httpx2.AsyncClient, text: str, key: str) -> httpx2.Response:
    """A sentence of Ravi's."""
    headers = {"X-Actor": "ravi", "Idempotency-Key": key}
    return await client.post("/chat", json={"message": text, "user_id": "ravi"}, headers=headers)


async def decide(client: httpx2.AsyncClient, session: str, *, approved: bool) -> httpx2.Response:
    """What Maria, a manager, says."""
    body = {"approver_id": "maria", "approved": approved, "reason": "looked at it"}
    headers = {"X-Actor": "maria", "X-Actor-Roles": "manager"}
    return await client.post(f"/workflow/{session}/approve", json=body, headers=headers)


async def patient(ask: Callable[[], Awaitable[httpx2.Response]]) -> httpx2.Response:
    """Asks as a client should: where it is refused, again after the time that it was told."""
    answer = await ask()
    for _ in range(PATIENCE):
        if answer.status_code != 429:
            break
        await asyncio.sleep(int(answer.headers["retry-after"]))
        answer = await ask()
    return answer


async def pending(client: httpx2.AsyncClient, count: int) -> list[dict[str, Any]]:
    """Transfers that wait for a person."""
    found = []
    for number in range(count):
        answer = await patient(partial(chat, client, "Transfer 6000 to Kiran", f"pending-{number}"))
        assert answer.status_code == 202, answer.text
        found.append(answer.json())
    return found


async def until(check: Any, what: str, seconds: float) -> None:
    """Waits until an async check is true."""
    deadline = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.1)


async def test_ten_times_too_much_is_refused_early_and_drains_by_itself(
    database: Database, broker_url: str, eyes: Eyes, tmp_path: Path, record_property: Any
) -> None:
    """V29, V6: memory and queues stay bounded, refusals say when, what was accepted happens once, people decide."""
    async with bank_and_product(database, broker_url, tmp_path) as process:
        limits = httpx2.Limits(max_connections=CLIENTS + 8)
        async with httpx2.AsyncClient(base_url=process.api, trust_env=False, timeout=60, limits=limits) as client:
            waiting = await pending(client, PENDING)
            crowd = Crowd(client)
            clients = [asyncio.create_task(crowd.go_on(number % 4)) for number in range(CLIENTS)]
            try:
                seen = await watch(process, eyes, crowd, client, waiting)
            finally:
                crowd.ended = True
                await asyncio.gather(*clients)
            accepted = crowd.accepted
            record_property("offered, accepted", (accepted + len(crowd.refused), accepted))
            record_property("slowest refusal, seconds", round(crowd.slowest_refusal, 3))
            record_property("Retry-After by seconds", dict(crowd.waits))
            record_property("what was full", dict(crowd.signals))
            record_property("seen", seen)
            assert len(crowd.refused) >= (OFFERED_TIMES - 1) * accepted > 0
            assert min(crowd.waits) >= 1
            began = time.monotonic()
            await until(lambda: _drained(eyes), "everything drains", DRAIN_SECONDS_MAX)
            record_property("seconds to drain", round(time.monotonic() - began, 1))
            last = f"o-{uuid4()}"
            answer = await patient(lambda: crowd.start(last))
            assert answer.status_code == 201, answer.text
            await until(lambda: _drained(eyes), "the last one", DRAIN_SECONDS_MAX)
        assert await process.stop() == 0, process.tail()
    await accepted_happened_once(database, eyes, crowd, [*crowd.orders, last], waiting)


async def watch(
    process: Served, eyes: Eyes, crowd: Crowd, client: httpx2.AsyncClient, waiting: list[dict[str, Any]]
) -> dict[str, Any]:
    """Looks at memory and queues, and lets people decide meanwhile, until enough was offered."""
    began, memory, queues = time.monotonic(), [process.memory_bytes()], {"commands": 0, "unsent": 0}
    decisions: list[float] = []
    undecided = list(waiting)
    while True:
        await asyncio.sleep(0.25)
        seconds = time.monotonic() - began
        assert seconds < LOAD_SECONDS_MAX, f"{crowd.accepted} accepted, {len(crowd.refused)} refused"
        memory.append(process.memory_bytes())
        (row,) = await eyes.rows(
            "SELECT (SELECT count(*)::int FROM timers WHERE command_seq > 0) AS commands, "
            "(SELECT count(*)::int FROM outbox_unsent) AS unsent"
        )
        queues = {name: max(queues[name], row[name]) for name in queues}
        if undecided:
            asked = time.monotonic()
            answer = await decide(client, undecided.pop()["session_id"], approved=len(undecided) % 4 != 0)
            assert answer.status_code == 200, answer.text
            decisions.append(time.monotonic() - asked)
        enough = len(crowd.refused) >= max(REFUSALS_MIN, OFFERED_TIMES * crowd.accepted)
        if seconds >= LOAD_SECONDS_MIN and enough and not undecided and crowd.orders and crowd.transfers:
            break
    assert queues["commands"] <= COMMANDS_MAX + SLACK, queues
    assert queues["unsent"] <= UNSENT_MAX + SLACK, queues
    assert max(memory) - memory[0] < GROWTH_BYTES_MAX, memory
    return {
        "seconds": round(seconds, 1),
        "memory MiB": (memory[0] >> 20, max(memory) >> 20),
        "queues at most": queues,
        "slowest decision, seconds": round(max(decisions), 2),
    }


async def _drained(eyes: Eyes) -> bool:
    (row,) = await eyes.rows(
        "SELECT (SELECT count(*)::int FROM live_runs) + (SELECT count(*)::int FROM outbox_unsent) AS n"
    )
    return bool(row["n"] == 0)


async def accepted_happened_once(
    database: Database, eyes: Eyes, crowd: Crowd, orders: list[str], waiting: list[dict[str, Any]]
) -> None:
    """What was accepted is there, once, with its effects; what was refused left nothing."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        books = Books(connection)
        found = await books.orders(orders)
        assert {one.phase for one in found} == {"completed"}
        await books.ledgers_balance()
        await books.effects_match(found)
    finally:
        await connection.close()
    rows = await eyes.rows("SELECT business_key, phase FROM saga_heads WHERE name = 'transfer'")
    phases = {row["business_key"]: row["phase"] for row in rows}
    asked = {one["transfer_id"] for one in waiting}
    assert phases.keys() == asked | set(crowd.transfers)
    assert {phases[key] for key in crowd.transfers} == {"completed"}
    assert Counter(phases[key] for key in asked) == {"completed": PENDING - PENDING // 4, "compensated": PENDING // 4}
    moved = await eyes.rows("SELECT count(*)::int AS n FROM bank.transfers")
    assert moved[0]["n"] == len(crowd.transfers) + PENDING - PENDING // 4
    assert await eyes.rows("SELECT 1 FROM saga_heads WHERE business_key = ANY($1::text[])", crowd.refused) == []
