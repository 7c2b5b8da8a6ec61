"""Two people activate a version of a running product: by page, by API and by command line; every saga says so."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from html import unescape
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect

from orchestrator import Retry, Saga, compute, fail, pivot, publish, wait_for, when
from orchestrator.activation.definition import NAME
from orchestrator.api.views import Actor, RefusedError
from orchestrator.cli.main import run
from orchestrator.cli.serving import migrate_schema
from orchestrator.store.postgres import PostgresStore
from tests.browser.conftest import Office, chromium
from tests.databases import Database
from tests.pages.office import ADA, OfficeProduct, office_product
from tests.pages.wires_saga import (
    WireNoted,
    WireRequested,
    approve,
    hold,
    needs_approval,
    rules,
    send,
    waits,
    wire,
    wire_sent,
    wires_desk,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
APPROVER = "definition-approver"
wire_2 = Saga(
    "wire",
    version=2,
    starts_on=WireRequested,
    flow=[
        replace(hold, retry=Retry(attempts=9)),
        compute(rules),
        when(waits, wait_for(WireNoted, within=timedelta(hours=1)).on_timeout(fail("never noted"))),
        when(needs_approval, approve.on_reject(fail("rejected")).on_timeout(fail("nobody approved in time"))),
        pivot(send),
        publish(wire_sent),
    ],
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def office(module_database: Database) -> AsyncIterator[OfficeProduct]:
    """A product under approval whose first version ran before it came under approval."""
    await migrate_schema(module_database.migrate_url, [wires_desk.own_schema])
    async with PostgresStore(module_database.url) as store:
        await store.register_definition("wire", 1, wire.graph.hash, wire.graph.data)
    settings: dict[str, Any] = {"activation": "approval", "build": "4f5e6d", "deployed_by": "dora"}
    async with office_product(module_database, installed=(wire, wire_2), **settings) as product:
        yield product


def text(page: str) -> str:
    """What a page says, without markup."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))


async def versions(office: OfficeProduct, *saga_ids: str) -> list[int]:
    """On which version these run."""
    return [(await office.engine.saga(saga_id, ADA)).version for saga_id in saga_ids]


async def agree(office: OfficeProduct, who: str = "ben", outcome: str = "approve") -> None:
    """The vote of somebody who may."""
    (task,) = [one for one in await office.engine.tasks(tenant="main") if one.saga_name == NAME]
    voter = Actor(who, (APPROVER,), "test", capacities=frozenset({"approver"}))
    await office.engine.vote(task.id, {"outcome": outcome}, task.subject_hash, voter, reason="read it")


async def test_a_request_shows_what_changes_and_a_second_person_switches(office: OfficeProduct) -> None:
    """Given v1 is active and v2 deployed, when ada asks and ben agrees on the pages, then new wires run on v2."""
    before = await office.begin()
    page = text((await office.get("/office/definitions/wire/2")).text)
    assert "never active" in page
    assert "Ask that it takes new sagas" in page
    asked = "/office/definitions/wire/2/activate"
    shown = text((await office.get(asked)).text)
    assert "1 live: 0 same · 1 differ at hold" in shown
    assert "hold: retry was" in shown
    assert (await office.form(asked, reason="  ")).status_code == 422
    assert (await office.form(asked, reason="holds are tried more often")).status_code == 303
    assert "A request waits for somebody to agree" in text((await office.get("/office/definitions/wire/2")).text)
    second = await office.get(asked)
    assert "A request waits" in text(second.text)
    assert "<form method" not in second.text.partition("<main")[2]
    (task,) = [one for one in await office.engine.tasks(tenant="main") if one.saga_name == NAME]
    case = text((await office.get(f"/office/tasks/{task.id}", "ben", APPROVER)).text)
    assert "holds are tried more often" in case
    assert "hold: retry was" in case
    assert "1 live: 0 same · 1 differ at hold" in case
    between = await office.begin()
    await agree(office)
    after = await office.begin()
    assert await versions(office, before, between, after) == [1, 1, 2]
    page = text((await office.get("/office/definitions/wire/2")).text)
    assert "takes new sagas" in page
    assert "v2 v1 who asked, who agreed, and what both saw" in page
    assert "4f5e6d" in page
    assert "dora" in page
    assert "retired" in text((await office.get("/office/definitions/wire/1")).text)


async def test_the_evidence_is_in_the_records(office: OfficeProduct) -> None:
    """Hashes of both shapes and of the changes, who asked, who agreed, by which right, and why."""
    page = await office.engine.sagas(ADA, name=NAME, business_key="wire")
    saga = next(one for one in page.items if one.ended)
    records = await office.engine.records(saga.saga_id, ADA)
    start = next(record for record in records if record.type == "saga.started").data["data"]
    assert (start["hash"], start["replaces_hash"]) == (wire_2.graph.hash, wire.graph.hash)
    assert start["changes_hash"] == sha256("\n".join(start["changes"]).encode()).hexdigest()
    assert (start["asked_by"], start["deployed_by"], start["build"]) == ("ada", "dora", "4f5e6d")
    (vote,) = [record.data["vote"] for record in records if record.type == "task.voted"]
    assert (vote["by"], vote["reason"]) == ("ben", "read it")
    shown = next(record.data for record in records if record.type == "task.opened")
    assert vote["hash"] == shown["hash"]


async def test_the_api_asks_and_refuses_in_words(office: OfficeProduct) -> None:
    """Active already, not under approval here, not there; evidence that a client wrote itself is none."""
    headers = {"X-Actor": "ada"}
    again = await office.client.post("/v1/definitions/wire/2/activation", json={"reason": "r"}, headers=headers)
    assert (again.status_code, again.json()["code"]) == (409, "active_already")
    gone = await office.client.post("/v1/definitions/wire/9/activation", json={"reason": "r"}, headers=headers)
    assert (gone.status_code, gone.json()["code"]) == (404, "not_found")
    own = await office.client.post(f"/v1/definitions/{NAME}/1/activation", json={"reason": "r"}, headers=headers)
    assert (own.status_code, own.json()["code"]) == (409, "by_deployment")
    page = await office.engine.sagas(ADA, name=NAME, business_key="wire")
    forged = (await office.engine.records(page.items[0].saga_id, ADA))[0].data["data"] | {"asked_by": "nobody"}
    answer = await office.client.post(f"/v1/sagas/{NAME}", json=forged, headers={**headers, "Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
    shown = (await office.client.get("/v1/definitions/wire", headers=headers)).json()
    assert [(one["version"], one["state"]) for one in shown["versions"]] == [(2, "active"), (1, "retired")]
    assert shown["activation"] == "approval"


async def test_going_back_is_asked_for_at_the_command_line(
    office: OfficeProduct, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The older version, and the same four eyes: whoever asked is excluded."""
    monkeypatch.setenv("ORCHESTRATOR_API_URL", office.url)
    monkeypatch.setenv("ORCHESTRATOR_ACTOR", "ada")

    async def cli(*arguments: str) -> str:
        capsys.readouterr()
        assert await asyncio.to_thread(run, ["definition", *arguments]) == 0
        return capsys.readouterr().out

    assert "hold: retry was" in await cli("diff", "wire", "2", "1")
    assert "live: " in await cli("preflight", "wire", "2", "1")
    asked = json.loads(await cli("activate", "wire", "1", "--reason", "holds pile up", "--yes", "--json"))
    with pytest.raises(RefusedError, match="ada"):
        await agree(office, "ada")
    await agree(office, "ben")
    assert await versions(office, await office.begin()) == [1]
    shown = await cli("show", "wire")
    assert f"v1 instead of v2: saga {asked['sagaId']}" in shown
    lines = [json.loads(line) for line in (await cli("list", "--json")).splitlines()]
    assert {(one["name"], one["version"]): one["activation"] for one in lines}[NAME, 1] == "deploy"


@pytest.mark.browser
async def test_two_people_in_two_browsers(office: OfficeProduct) -> None:
    """Ada reads what changes and asks; ben finds it in his inbox and agrees; the version says since when."""
    executable = chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        seen = Office(office.runtime, office.engine, office.url, office.client, browser, office.app.state.live)
        ada, ben = await seen.page("ada", "operator"), await seen.page("ben", f"{APPROVER},approver", width=400)
        await ada.goto("/office/definitions/wire/2")
        await ada.get_by_role("link", name="Ask that it takes new sagas").click()
        await expect(ada.get_by_role("heading", name="What changes")).to_be_visible()
        await seen.assert_accessible(ada)
        await ada.get_by_label("Reason").fill("holds are tried more often")
        await ada.get_by_role("button", name="Ask for v2").click()
        await expect(ada.get_by_role("status").filter(has_text="in the inbox of those who may agree")).to_be_visible()
        await ben.goto("/office/inbox")
        await ben.get_by_role("link", name="agree to version").first.click()
        await expect(ben.get_by_text("hold: retry was")).to_be_visible()
        await ben.get_by_role("radio", name="Approve").check()
        await ben.get_by_label(re.compile("^Reason")).first.fill("read it")
        await ben.locator("[data-decide]").click()
        await expect(ben.get_by_role("status").filter(has_text="Your decision is recorded")).to_be_visible()
        await ada.reload()
        await expect(ada.locator("h1 + .pill")).to_contain_text("takes new sagas")
        await seen.assert_accessible(ada)
        assert seen.complaints == []
        await browser.close()
    assert await versions(office, await office.begin()) == [2]
