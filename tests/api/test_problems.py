"""Every no has one form, one table and a page; and nobody acts without a name."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import httpx2
import pytest
import pytest_asyncio
from fastapi import FastAPI, Query
from pydantic import BaseModel

import orchestrator.kernel.inputs as kernel_inputs
from orchestrator.api import away, problems
from orchestrator.api.app import about
from orchestrator.api.engine import Acting, RefusedError
from orchestrator.api.problems import PROBLEMS, ProblemError
from orchestrator.config import Settings
from orchestrator.identity.gate import Identity
from orchestrator.store.connections import ConnectionLimits, Pools
from orchestrator.store.contract import ConflictError, StoreError

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Body(BaseModel):
    """Something with a field."""

    amount: int


def make_app() -> FastAPI:
    """An application whose routes fail in every way that there is."""
    app = FastAPI(openapi_url=None)
    problems.install(app)
    away.install(app)
    app.include_router(about())
    pools = Pools("postgresql://nowhere", ConnectionLimits(), "test")  # nothing here asks the database
    app.state.parameters = {}
    app.state.identity = Identity(Settings(), pools, tenant="main", tenants=frozenset({"main"}))

    @app.get("/raise/{code}")
    async def raises(code: str) -> None:
        raise RefusedError(code, "the reason", {"by": "maria"}, saga_id="s-1")

    @app.get("/bug")
    async def bug() -> None:
        raise ZeroDivisionError("SELECT secret FROM /etc/passwd")

    @app.get("/away")
    async def is_away() -> None:
        raise ConflictError("moved")

    @app.get("/broken")
    async def broken() -> None:
        raise StoreError("the schema is another one")

    @app.post("/body")
    async def body(body: Body, limit: Annotated[int, Query(le=5)] = 1) -> int:
        return body.amount

    @app.get("/me")
    async def me(actor: Acting) -> list[str]:
        return [actor.id, *actor.roles]

    return app


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx2.AsyncClient]:
    """A client that calls from loopback."""
    transport = httpx2.ASGITransport(app=make_app(), client=("127.0.0.1", 4321), raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        yield client


@pytest.mark.parametrize("code", sorted(PROBLEMS))
async def test_every_problem_says_what_the_table_says(client: httpx2.AsyncClient, code: str) -> None:
    """Status, title and type come from one table; the type is a page that exists."""
    answer = await client.get(f"/raise/{code}", headers={"traceparent": TRACEPARENT})
    body = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, body["status"], body["title"]) == (
        PROBLEMS[code].status, PROBLEMS[code].status, PROBLEMS[code].title,
    )  # fmt: skip
    assert body["detail"] == "the reason"
    assert body["sagaId"] == "s-1"
    assert body["traceId"] == TRACEPARENT[3:35]
    assert body["facts"] == {"by": "maria"}
    page = await client.get(body["type"])
    assert page.status_code == 200
    assert PROBLEMS[code].remedy.split("`")[0] in page.text


def test_every_refusal_of_the_kernel_has_an_entry() -> None:
    """The kernel's list of codes is in the docstring of Refusal; a new one must get a status."""
    listed = (kernel_inputs.Refusal.__doc__ or "").partition("Codes:")[2]
    codes = re.findall(r"[a-z]+(?:_[a-z]+)*", listed)
    assert len(codes) > 10
    assert [code for code in codes if code not in PROBLEMS] == []


# What the kernel says to messages and timers; nobody can ask for these over HTTP.
TO_MACHINES = {"late", "late_error", "stale", "not_awaited"}


def test_every_code_that_the_kernel_refuses_with_has_an_entry() -> None:
    """Also those that the kernel's files use without listing them."""
    folder = Path(kernel_inputs.__file__).parent
    used = {code for file in folder.glob("*.py") for code in re.findall(r'refuse\(\s*"([a-z_]+)"', file.read_text())}
    assert len(used) > 10
    assert used - set(PROBLEMS) - TO_MACHINES == set()


async def test_a_bug_shows_nothing_of_itself(client: httpx2.AsyncClient) -> None:
    """No trace, SQL or path in an answer; a trace id to find them in the log."""
    answer = await client.get("/bug")
    assert answer.status_code == 500
    assert "SELECT" not in answer.text
    assert "Zero" not in answer.text
    assert re.fullmatch(r"[0-9a-f]{32}", answer.json()["traceId"])


async def test_what_may_work_on_a_second_try_is_503(client: httpx2.AsyncClient) -> None:
    """A conflict in the store or a lost connection is nobody's mistake."""
    answer = await client.get("/away")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_a_database_that_is_away_costs_a_line_of_the_log_for_each_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two tracebacks for each, 16 KB, filled a log in an outage; and nothing of it reaches the server as a bug."""
    transport = httpx2.ASGITransport(make_app(), raise_app_exceptions=True)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        with caplog.at_level("WARNING"):
            assert (await client.get("/away")).status_code == 503
        assert [(record.levelname, record.exc_info) for record in caplog.records] == [("WARNING", None)]
        with pytest.raises(StoreError, match="the schema"):
            await client.get("/broken")


async def test_a_body_that_does_not_fit_points_at_the_field(client: httpx2.AsyncClient) -> None:
    """JSON Pointers into the body; a wrong parameter is another problem."""
    answer = await client.post("/body", json={"amount": "x"})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "#/amount")
    answer = await client.post("/body?limit=9", json={"amount": 1})
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("POST", "/bug", 405)])
async def test_wrong_addresses_are_problems_too(
    client: httpx2.AsyncClient, method: str, path: str, status: int
) -> None:
    """Also what the router itself refuses."""
    answer = await client.request(method, path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_an_actor_is_known_by_header_with_roles(client: httpx2.AsyncClient) -> None:
    """Roles are sorted, and written once."""
    answer = await client.get("/me", headers={"X-Actor": "maria", "X-Actor-Roles": "ops, manager,ops"})
    assert answer.json() == ["maria", "manager", "ops"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Actor": ""},
        {"X-Actor": "a,b"},
        {"X-Actor": "a\tb"},
        {"X-Actor": "x" * 201},
        {"X-Actor": "maria", "X-Forwarded-For": "10.0.0.1"},
        {"X-Actor": "maria", "Forwarded": "for=10.0.0.1"},
        {"X-Actor": "maria", "Host": "evil.example"},
        {"X-Actor": "maria", "X-Actor-Roles": ",".join(map(str, range(51)))},
    ],
)
async def test_whoever_cannot_be_believed_is_401(client: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    """No name, no clear name, a proxy in between, or a host name that a web page could have rebound."""
    answer = await client.get("/me", headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize("address", ["10.0.0.5", "8.8.8.8", "2001:db8::1", "testclient"])
async def test_a_header_from_another_machine_is_not_believed(address: str) -> None:
    """Until people can sign in, only this machine is trusted."""
    transport = httpx2.ASGITransport(app=make_app(), client=(address, 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        assert (await client.get("/me", headers={"X-Actor": "maria"})).status_code == 401


async def test_two_names_are_none() -> None:
    """A proxy that adds a second header must not choose who acts."""
    transport = httpx2.ASGITransport(app=make_app(), client=("127.0.0.1", 1))
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        assert (await client.get("/me", headers=[("X-Actor", "a"), ("X-Actor", "b")])).status_code == 401


def test_a_code_without_an_entry_is_a_bug_not_a_lie() -> None:
    """ProblemError takes any code; the answer then is 500."""
    assert ProblemError("no_such_code", "x").code not in PROBLEMS
