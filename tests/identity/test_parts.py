"""The small parts: windows of attempts, names in claims, keys of the provider, the log."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from orchestrator.config import load_settings
from orchestrator.identity import security_log
from orchestrator.identity.claims import OIDC, OIDC_TOKEN, Mapped, person_of, read_capacities
from orchestrator.identity.gate import Identity
from orchestrator.identity.limits import Attempts, Window
from orchestrator.identity.provider import KEYS_SECONDS_MIN, Provider, ProviderError
from orchestrator.identity.rules import may
from orchestrator.identity.security_log import Entry, SecurityLog, visible
from orchestrator.identity.tokens import TokenError, import_keys
from orchestrator.identity.watch import Watch
from orchestrator.store.connections import ConnectionLimits, Pools
from orchestrator.store.contract import StoreError
from tests.databases import Database


def test_a_window_runs_down_evenly_and_forgets_in_bounded_memory() -> None:
    """No sleeping: the clock is given."""
    clock = [0.0]
    window = Window(5, 50, entries_max=100, now=lambda: clock[0])
    for _ in range(5):
        assert window.wait_seconds("a") == 0
        window.add("a")
    assert window.wait_seconds("a") == 10
    clock[0] = 10
    assert window.wait_seconds("a") == 0
    for number in range(1_000):
        window.add(str(number))
    assert len(window) == 100


def test_an_account_is_slowed_where_it_is_guessed_and_not_elsewhere() -> None:
    """Somebody else's guesses do not lock the owner out at their own desk."""
    attempts = Attempts(now=lambda: 0.0)
    for _ in range(10):
        attempts.failed("6.6.6.6", "asha")
    assert attempts.wait_seconds("6.6.6.6", "asha") > 0
    assert attempts.wait_seconds("6.6.6.6", "ravi") == 0
    assert attempts.wait_seconds("9.9.9.9", "asha") == 0


# --- claims -----------------------------------------------------------------------------------------------------------

MAPPED = Mapped(capacities=read_capacities("approver=finance|risk, operator=sre, approver=treasury"))


def claims(**changed: Any) -> dict[str, Any]:
    """Claims of an ordinary person."""
    return {"sub": "asha", "name": "Asha Rao", "groups": ["finance"], "client_id": "app", **changed}


@pytest.mark.parametrize(
    ("groups", "roles", "capacities"),
    [
        (["finance", "sre"], ("finance", "sre"), {"approver", "operator"}),
        (["treasury"], ("treasury",), {"approver"}),
        ("finance", ("finance",), {"approver"}),
        ("finance,sre", ("finance,sre",), set()),
        ("finance sre", ("finance sre",), set()),
        (["Finance"], ("Finance",), set()),
        (["approver", "operator"], ("approver", "operator"), set()),  # a group's own name gives nothing
        ([], (), set()),
        (None, (), set()),
    ],
)
def test_groups_are_taken_whole(groups: Any, roles: tuple[str, ...], capacities: set[str]) -> None:
    """B11: an array of texts, or one text; never split, folded or completed."""
    actor = person_of(claims(groups=groups), MAPPED, authentication=OIDC)
    assert (actor.roles, set(actor.capacities)) == (roles, capacities)


@pytest.mark.parametrize("groups", [{"finance": True}, [["finance"]], 7, [None], ["x"] * 501], ids=str)
def test_groups_of_another_form_let_nobody_in(groups: Any) -> None:
    """Somebody meant something else by it."""
    with pytest.raises(TokenError):
        person_of(claims(groups=groups), MAPPED, authentication=OIDC)


@pytest.mark.parametrize(
    "sub",
    ["", " asha", "as\u202eha", "\uff41sha", "a\u200bsha", "a" * 201, "service:billing", "system", None, 7, ["asha"]],
)
def test_an_id_that_could_be_taken_for_another_one_is_refused(sub: Any) -> None:
    """Four eyes are told apart by ids."""
    with pytest.raises(TokenError):
        person_of(claims(sub=sub), MAPPED, authentication=OIDC)


def test_claims_may_lie_deeper_and_under_names_with_dots() -> None:
    """As Keycloak has them, and as others write them."""
    deep = Mapped(groups_claim="realm_access.roles", capacities=MAPPED.capacities)
    found = person_of(claims(groups=None, realm_access={"roles": ["sre"]}), deep, authentication=OIDC)
    assert found.capacities == {"operator"}
    dotted = Mapped(groups_claim="https://bank.example/groups", capacities=MAPPED.capacities)
    found = person_of({**claims(), "https://bank.example/groups": ["sre"]}, dotted, authentication=OIDC)
    assert found.capacities == {"operator"}


def test_a_program_with_a_token_of_its_own_is_no_person() -> None:
    """Client credentials: its subject is itself."""
    program = person_of(claims(sub="app"), MAPPED, authentication=OIDC_TOKEN)
    assert (program.id, program.authentication) == ("service:app", "oidc-client")
    assert person_of(claims(), MAPPED, authentication=OIDC_TOKEN).authentication == "oidc-token"


@pytest.mark.parametrize(
    "shape",
    [
        {"sub": "f3a1", "azp": "app", "preferred_username": "service-account-app"},
        {"sub": "9d2c", "azp": "4711", "oid": "9d2c", "idtyp": "app"},
        {"sub": "app@clients", "azp": "app", "gty": "client-credentials"},
        {"sub": "app@clients", "client_id": "app"},
        {"sub": "4711", "appid": "4711", "client_id": None},
        {"sub": None, "email": "robot@bank.example"},
    ],
    ids=["keycloak", "entra", "auth0", "auth0 without gty", "entra v1", "no subject"],
)
def test_a_program_is_no_person_whatever_its_provider_calls_it(shape: dict[str, Any]) -> None:
    """Else a job in the finance group would be the second pair of eyes."""
    given = {name: value for name, value in claims(**shape).items() if value is not None}
    mapped = Mapped(person_claim="email") if "sub" not in given else MAPPED
    program = person_of(given, mapped, authentication=OIDC_TOKEN)
    assert program.authentication == "oidc-client"
    assert program.id.startswith("service:")
    assert not may(program, "task.decide")


def test_an_address_that_the_provider_has_not_checked_is_nobodys_id() -> None:
    """Where people are known by their address, whoever can type another one would be them."""
    mapped = Mapped(person_claim="email", capacities=MAPPED.capacities)
    for flag in (False, "false"):
        with pytest.raises(TokenError):
            person_of(claims(email="asha@bank.example", email_verified=flag), mapped, authentication=OIDC)
    for known in ({}, {"email_verified": True}):
        assert person_of(claims(email="asha@bank.example", **known), mapped, authentication=OIDC).roles == ("finance",)
    assert person_of(claims(email_verified=False), MAPPED, authentication=OIDC).id == "asha"


def test_a_display_name_cannot_turn_what_stands_beside_it() -> None:
    """Directions and controls are left out of what pages show."""
    assert person_of(claims(name="Asha\u202e\x00 Rao"), MAPPED, authentication=OIDC).name == "Asha Rao"


# --- the provider -----------------------------------------------------------------------------------------------------


def provider_with(answers: dict[str, Any], clock: list[float]) -> tuple[Provider, list[str]]:
    """A provider whose server is a table, and what was asked of it."""
    asked: list[str] = []

    def handle(request: httpx2.Request) -> httpx2.Response:
        asked.append(request.url.path)
        found = answers.get(request.url.path)
        return httpx2.Response(200, json=found) if found is not None else httpx2.Response(503)

    provider = Provider("https://login.example", "c", "", "openid", now=lambda: clock[0])
    provider._http = httpx2.AsyncClient(transport=httpx2.MockTransport(handle))
    return provider, asked


DISCOVERY = {
    "issuer": "https://login.example",
    "authorization_endpoint": "https://login.example/authorize",
    "token_endpoint": "https://login.example/token",
    "jwks_uri": "https://login.example/keys",
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": "https://evil.example"},
        {"issuer": "https://login.example/"},
        {"token_endpoint": "http://login.example/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": None},
    ],
    ids=str,
)
async def test_a_discovery_document_of_another_issuer_is_not_believed(wrong: dict[str, Any]) -> None:
    """Nor one that leads out of https."""
    provider, _ = provider_with({"/.well-known/openid-configuration": {**DISCOVERY, **wrong}}, [0.0])
    with pytest.raises(ProviderError):
        await provider.discovered()
    await provider.close()


async def test_a_provider_that_is_away_is_not_asked_for_every_token() -> None:
    """And its users are told to try again, not that they are nobody."""
    clock = [100.0]
    provider, asked = provider_with({}, clock)
    for _ in range(20):
        with pytest.raises(ProviderError):
            await provider.verified("a.b.c")
    assert len(asked) <= 1
    clock[0] += KEYS_SECONDS_MIN
    with pytest.raises(ProviderError):
        await provider.verified("a.b.c")
    assert len(asked) == 2
    await provider.close()


def test_keys_that_are_not_for_signatures_are_left_out() -> None:
    """A shared secret above all: whoever can check with it could sign."""
    assert (
        import_keys({"keys": [{"kty": "oct", "k": "c2VjcmV0"}, {"kty": "RSA", "use": "enc"}, "x", {"kty": "XX"}]}) == []
    )
    assert import_keys(["x"]) == import_keys(None) == []


# --- the security log -------------------------------------------------------------------------------------------------


def entry(number: int, outcome: str = "refused") -> Entry:
    """One entry."""
    return Entry(
        datetime.now(UTC), "main", f"p{number}", "oidc", "saga.read", "/x", outcome, 403, "c", "r", "127.0.0.1"
    )


async def test_a_normal_stop_loses_nothing(database: Database) -> None:
    """What waits is written, however much it is."""
    pools = Pools(database.url, ConnectionLimits(), "test")
    log = SecurityLog(pools)
    running = asyncio.create_task(log.run())
    for number in range(2_500):
        log.add(entry(number, "allowed" if number % 5 else "refused"))
    await log.stop()
    await running
    rows = await log.read("main", limit=10_000)
    refused = await log.read("main", outcome="refused", limit=10_000)
    await pools.close()
    assert (len(rows), len(refused), len(log)) == (2_500, 500, 0)
    assert {row["actor"] for row in rows} == {f"p{number}" for number in range(2_500)}


async def test_while_the_database_is_away_refusals_wait_and_the_rest_makes_room(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded; what was lost is counted, and told once it can be."""
    monkeypatch.setattr(security_log, "ROWS_MAX", 100)
    away = Pools("postgresql://nobody@127.0.0.1:1/none", ConnectionLimits(acquire_timeout_ms=500), "test")
    log = SecurityLog(away)
    for number in range(60):
        log.add(entry(number))
        log.add(entry(1_000 + number, "allowed"))
    assert len(log) == 100
    with pytest.raises(StoreError):
        await log.flush()
    assert len(log) >= 100
    log._pools = pools = Pools(database.url, ConnectionLimits(), "test")
    await log.flush()
    refused = await log.read("main", outcome="refused", limit=1_000)
    (lost,) = await log.read("", outcome="failed")
    await pools.close()
    await away.close()
    assert len(refused) == 60
    assert "20 entries were lost" in lost["object"]


async def test_strangers_cannot_fill_the_disk(database: Database) -> None:
    """Beyond a thousand a minute their refusals are counted; people who are known are still listed one by one."""
    pools = Pools(database.url, ConnectionLimits(), "test")
    log = SecurityLog(pools)
    for _ in range(1_500):
        log.add(replace(entry(0), actor="", tenant=""))
    for number in range(1_100):
        log.add(entry(number))
    await log.stop()
    rows = await log.read("main", limit=10_000)
    await pools.close()
    strangers = [row for row in rows if not row["actor"]]
    assert len(rows) - len(strangers) == 1_100
    assert 1_000 <= len(strangers) <= 1_100
    (told,) = [row for row in strangers if row["code"] == "flood"]
    assert int(told["object"].split()[0]) + len(strangers) - 1 == 1_500
    assert told["address"] == "127.0.0.1"


def test_what_is_logged_cannot_write_lines_of_its_own() -> None:
    """F5: no line breaks, no colours, no change of direction, and not without end."""
    assert visible("/a\r\nadmin allowed\x1b[31m\u202e") == "/a\\u000d\\u000aadmin allowed\\u001b[31m\\u202e"
    assert len(visible("x" * 10_000)) == 300


# --- names that reach us ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "host", "status"),
    [
        ("/v1/me", "bank.example", 200),
        ("/v1/me", "10.1.2.3:8080", 400),
        ("/v1/me", "evil.example", 400),
        ("/healthz", "10.1.2.3:8080", 200),
        ("/readyz", "10.1.2.3:8080", 200),
        ("/healthz/x", "10.1.2.3:8080", 400),
    ],
)
async def test_a_name_that_is_not_ours_is_refused_but_for_probes(path: str, host: str, status: int) -> None:
    """A rebound name, or another site's; an orchestrator of containers asks each process by its address."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    settings = load_settings(allowed_hosts="api.bank.internal", public_url="https://bank.example")
    pools = Pools("postgresql://nowhere", ConnectionLimits(), "test")  # nothing here asks the database
    identity = Identity(settings, pools, tenant="main", tenants=frozenset({"main"}))
    watch = Watch(application, identity, {})

    async def served(scope: Any, receive: Any, send: Any) -> None:
        await watch({**scope, "app": FastAPI()}, receive, send)

    transport = httpx2.ASGITransport(app=served)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        assert (await client.get(path, headers={"Host": host})).status_code == status
