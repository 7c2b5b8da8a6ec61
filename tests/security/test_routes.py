"""Every route of the application: stated, enumerated from its router and from OpenAPI, closed to strangers."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.routing import iter_route_contexts

from orchestrator.api.app import action_of
from orchestrator.identity.rules import ACTIONS, PUBLIC, SIGNED_IN
from tests.identity.bank import LEAKS, Bank

pytestmark = pytest.mark.asyncio(loop_scope="module")

# What everybody may ask for, and why. A route that becomes public must be written here.
OPEN = {
    ("GET", "/healthz"): "a process lives, and says nothing else",
    ("GET", "/readyz"): "a balancer asks it",
    ("GET", "/problems/{code}"): "what an error means",
    ("GET", "/"): "leads to the office, which asks",
    ("GET", "/office/assets/{file}"): "style and scripts, also of the sign-in page",
    ("GET", "/office/login"): "the way in",
    ("POST", "/office/login"): "the way in of a demonstration",
    ("GET", "/office/login/provider"): "the way in",
    ("GET", "/office/callback"): "the way in",
    ("POST", "/office/logout"): "the way out, with a session's own token",
}
# Routes that are not in OpenAPI: pages for people. Their answers are HTML.
PAGES = re.compile(r"/(office(/.*)?)?")


def routes(bank: Bank) -> dict[tuple[str, str], str]:
    """(method, path) to action, of the application's own router."""
    return {
        (method, route.path or ""): action_of(route)
        for route in iter_route_contexts(bank.app.routes)
        for method in (route.methods or {"GET"}) - {"HEAD"}
    }


def filled(path: str) -> str:
    """An address of a route; what it names does not exist."""
    return re.sub(r"\{[^}]*\}", "1", path)


async def test_every_route_states_an_action_that_is_in_the_table(bank: Bank) -> None:
    """Denied by default: what nobody thought of is open to nobody."""
    found = routes(bank)
    assert len(found) > 40
    assert {action for action in found.values() if action not in ACTIONS} == set()


async def test_what_is_open_to_everybody_is_on_the_list(bank: Bank) -> None:
    """Nobody opens a route without saying why."""
    assert {route for route, action in routes(bank).items() if action == PUBLIC} - OPEN.keys() == set()


async def test_the_router_and_the_description_have_the_same_routes(bank: Bank) -> None:
    """A route in one list alone was added past the other one."""
    described = bank.app.openapi()["paths"]
    in_description = {(method.upper(), path) for path, methods in described.items() for method in methods}
    in_router = set(routes(bank))
    assert in_description - in_router == set()
    hidden = {(method, path) for method, path in in_router - in_description if not PAGES.fullmatch(path)}
    assert hidden == set()


async def test_a_stranger_gets_nowhere(bank: Bank) -> None:
    """A1: 401 on every route but the open ones, nothing changes, nothing leaks, one entry in the log each."""
    before = await bank.records()
    wrong: list[Any] = []
    for (method, path), action in sorted(routes(bank).items()):
        if action == PUBLIC:
            continue
        answer = await bank.ask(method, filled(path), json={} if method in ("POST", "PUT", "PATCH") else None)
        entry = [(row["outcome"], row["actor"], row["action"]) for row in answer.logged]
        whole = answer.response.text + str(answer.response.headers)
        if answer.status != 401 or entry != [("refused", "", action)] or any(leak in whole for leak in LEAKS):
            wrong.append((method, path, answer.status, entry, answer.response.text[:200]))
    assert wrong == []
    assert await bank.records() == before


async def test_whoever_may_nothing_gets_nowhere(bank: Bank) -> None:
    """Known, but without a capacity: 403 everywhere, in the words of the rule."""
    wrong = []
    for (method, path), action in sorted(routes(bank).items()):
        if action == PUBLIC:
            continue
        body: Any = {} if method in ("POST", "PUT", "PATCH") else None
        answer = await bank.ask(method, filled(path), "nobody", json=body)
        if answer.status != 403 or [row["actor"] for row in answer.logged] != ["nobody"]:
            wrong.append((method, path, answer.status, answer.logged))
    assert wrong == []


@pytest.mark.parametrize("who", ["op", "svc"])
async def test_a_capacity_opens_its_routes_and_no_others(bank: Bank, who: str) -> None:
    """403 exactly where the table says no; everywhere else the route itself answers, never with a failure.

    Two capacities are enough to see that routes ask the table; the table itself has a test for each.
    """
    me = (await bank.client.get("/v1/me", headers=bank.bearer(who))).json()
    capacities, actions = set(me.get("capacities", ["service"])), set(me.get("actions", ["event.publish"]))
    wrong = []
    for (method, path), action in sorted(routes(bank).items()):
        if action in (PUBLIC, SIGNED_IN) or path.endswith("/live"):  # what streams does not end by itself
            continue
        allowed = bool(ACTIONS[action].capacities & capacities) and (not actions or action in actions)
        body: Any = {} if method in ("POST", "PUT", "PATCH") else None
        answer = await bank.ask(method, filled(path), who, json=body)
        refused = answer.status == 403 and answer.code in ("not_allowed", "")
        if refused == allowed or answer.status >= 500 or answer.status == 401 or len(answer.logged) != 1:
            wrong.append((method, path, action, answer.status, answer.response.text[:160]))
    assert wrong == []


async def test_health_says_nothing_of_what_it_consists_of(bank: Bank) -> None:
    """No version, no address, no name."""
    answer = await bank.ask("GET", "/healthz")
    assert (answer.status, answer.response.text) == (200, '{"ok":true}')
    assert answer.logged == []
    assert "server" not in answer.response.headers
