"""A whole product with everything of identity switched on, its people, and a client that shows who it is.

T1 is the tenant `main`, T2 is `t2`. Principals as in the list of security cases: anon, aud, ap1, ap2, apB, req, op,
adm2, svc (a key that may publish events only), old (barred, with a token that is still valid), vie.
"""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
from fastapi import FastAPI

from orchestrator.api.app import create_app
from orchestrator.api.engine import Engine
from orchestrator.api.server import ApiServer
from orchestrator.cli.serving import migrate_schema
from orchestrator.config import Settings, load_settings
from orchestrator.identity.gate import Identity
from orchestrator.identity.local import local_user, seed
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from tests.api.payout import desk, payout
from tests.databases import Database
from tests.identity.provider import AUDIENCE, CLIENT_ID, CLIENT_SECRET, TestProvider, running_provider

SETTLE_SECONDS_MAX = 60
CANARY = "canary-4711-of-t2"
CAPACITIES = (
    "approver=finance|risk|manager, operator=sre, auditor=audit, admin=platform, viewer=staff, service=machines"
)
# Subject to groups and tenant; as the provider knows them.
PEOPLE: dict[str, tuple[tuple[str, ...], str]] = {
    "aud": (("audit",), "main"),
    "ap1": (("finance", "manager"), "main"),
    "ap2": (("finance", "manager"), "main"),
    "apB": (("risk",), "main"),
    "req": (("finance", "manager"), "main"),
    "op": (("sre",), "main"),
    "op2": (("sre",), "main"),
    "vie": (("staff",), "main"),
    "adm": (("platform",), "main"),
    "adm2": (("platform", "audit", "sre", "staff", "manager"), "t2"),
    "ap_t2": (("manager", "staff"), "t2"),
    "old": (("finance", "manager", "audit"), "main"),
    "nobody": ((), "main"),
}
HOUSE = f"/{Path(__file__).parts[1]}/"  # below which this code lies, wherever that is
# What must never be in an answer.
LEAKS = ("Traceback", "SELECT ", "INSERT ", "asyncpg", "/tmp/", HOUSE, "site-packages", "postgresql://", CANARY)


@dataclass
class Answer:
    """An answer, and what the security log has of its request."""

    response: httpx2.Response
    logged: list[dict[str, Any]]

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status_code

    @property
    def code(self) -> str:
        """The problem's code, "" where it is none."""
        try:
            body = self.response.json()
        except ValueError:
            return ""
        return str(body.get("code", "")) if isinstance(body, dict) else ""


@dataclass
class Bank:
    """The running product."""

    app: FastAPI
    runtime: Runtime
    engine: Engine
    identity: Identity
    provider: TestProvider
    client: httpx2.AsyncClient
    owner: asyncpg.Connection[asyncpg.Record]
    secrets: dict[str, str] = field(default_factory=dict)

    def bearer(self, who: str) -> dict[str, str]:
        """The headers of a principal; none for anon."""
        if who == "anon":
            return {}
        if who not in self.secrets:
            groups, tenant = PEOPLE[who]
            self.secrets[who] = self.provider.access_token(who, groups, tenant=tenant)
        return {"Authorization": f"Bearer {self.secrets[who]}"}

    async def ask(self, method: str, path: str, who: str = "anon", **given: Any) -> Answer:
        """One request, and its entries of the security log."""
        trace = secrets.token_hex(16)
        headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01", **self.bearer(who)}
        headers.update(given.pop("headers", {}))
        if method == "POST" and "Idempotency-Key" not in headers:
            headers["Idempotency-Key"] = str(uuid.uuid4())
        response = await self.client.request(method, path, headers=headers, **given)
        await self.identity.log.flush()
        rows = await self.owner.fetch("SELECT * FROM security_log WHERE request_id = $1", trace)
        return Answer(response, [dict(row) for row in rows])

    async def records(self) -> int:
        """How many records there are, of all sagas and tenants."""
        count: int = await self.owner.fetchval("SELECT count(*) FROM records")
        return count

    async def start(self, *, by: str = "op", requester: str = "req", amount: str = "10", mood: str = "") -> str:
        """Starts a payout and waits until it rests; gives its id."""
        body = {"payout_id": str(uuid.uuid4()), "requester": requester, "amount": amount, "mood": mood}
        answer = await self.ask("POST", "/v1/sagas/payout", by, json=body)
        assert answer.status == 201, answer.response.text
        saga_id: str = answer.response.json()["sagaId"]
        tenant = PEOPLE[by][1]
        view = await self.engine.settled(saga_id, seconds_max=SETTLE_SECONDS_MAX, tenant=tenant)
        assert view.waiting_for or view.ended or view.stuck, view
        return saga_id

    async def task(self, saga_id: str, *, tenant: str = "main") -> dict[str, Any]:
        """The task of a saga, as the product itself sees it."""
        (task,) = await self.engine.tasks(saga_id=saga_id, state=None, tenant=tenant)
        return {"id": task.id, "subjectHash": task.subject_hash}

    async def decide(self, task: dict[str, Any], who: str, outcome: str = "approve", **given: Any) -> Answer:
        """A decision on a task."""
        body = {"outcome": outcome, "subjectHash": task["subjectHash"], **given.pop("more", {})}
        return await self.ask("POST", f"/v1/tasks/{task['id']}/decide", who, json=body, **given)


def bank_settings(url: str, issuer: str, **changed: Any) -> Settings:
    """Settings with everything of identity."""
    return load_settings(
        **{
            "database_url": url,
            "sagas": "tests.api",
            "topic_partitions": 2,
            "stall_exit_ms": 0,  # see tests/api
            "environment": "test",
            "local_users": True,
            "other_tenants": "t2",
            "oidc_issuer": issuer,
            "oidc_client_id": CLIENT_ID,
            "oidc_client_secret": CLIENT_SECRET,
            "oidc_audience": AUDIENCE,
            "oidc_tenant_claim": "tenant",
            "capacities": CAPACITIES,
            "step_up_amounts": "*=100000",
            **changed,
        }
    )


@asynccontextmanager
async def running_bank(database: Database, **changed: Any) -> AsyncIterator[Bank]:
    """The product, its provider and its people, until the block ends."""
    users = {
        sub: {"groups": list(groups), "tenant": tenant, "name": sub.upper()} for sub, (groups, tenant) in PEOPLE.items()
    }
    await migrate_schema(database.migrate_url, [desk.own_schema])
    with running_provider(users) as provider:
        runtime = Runtime(bank_settings(database.url, provider.issuer, **changed), catalog=Catalog.of([payout], [desk]))
        owner = await asyncpg.connect(database.admin_url)
        async with runtime:
            app = create_app(runtime)
            async with ApiServer(app, "127.0.0.1", 0) as server:
                running = asyncio.create_task(runtime.run())
                async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=30) as client:
                    bank = Bank(app, runtime, app.state.engine, app.state.identity, provider, client, owner)
                    await _people(bank)
                    yield bank
                await server.stop()
                runtime.stop()
                await running
        await owner.close()


async def _people(bank: Bank) -> None:
    kept = bank.identity.kept
    bank.secrets["svc"] = await kept.make_key(
        tenant="main", name="svc", capacities=["service"], actions=["event.publish"], made_by="test", seconds=600
    )
    bank.secrets["key_t2"] = await kept.make_key(
        tenant="t2", name="svc2", capacities=["service"], actions=[], made_by="test", seconds=600
    )
    await kept.bar("main", "old", reason="left the bank", by="test")
    await seed(
        bank.runtime.store.pools,
        [local_user("asha", "Asha Rao", capacities=["approver", "viewer"], roles=["manager"], password="open sesame")],
    )
