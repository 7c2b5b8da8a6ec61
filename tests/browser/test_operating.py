"""Operators and auditors in a real browser: un-stick a saga, evidence of two, dead letters, as of, export, axe."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright, expect

from orchestrator.pages.saga_page import TABS
from orchestrator.vault import keyfile
from tests.browser.conftest import Office, chromium
from tests.databases import Database
from tests.pages.office import ADA, OfficeProduct, office_product
from tests.pages.wires_saga import REPAIRED
from tests.vault.care import care, visits
from tests.vault.test_canary import ANNA

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

STATES = ("waiting", "event", "stuck", "unknown", "undo", "completed", "compensated")
PLACES = (
    "/office/sagas", "/office/operations", "/office/operations?tab=letters", "/office/operations?tab=early",
    "/office/operations/bulk", "/office/audit", "/office/audit/pending", "/office/audit/verify", "/office/levels",
    "/office/levels/success", "/office/definitions", "/office/definitions/wire/1",
    "/office/definitions/wire/preflight?from=1&to=1", "/office/definitions/wire/diff?from=1&to=1",
    "/office/system", "/office/erasures",
)  # fmt: skip
PAGE_BYTES_MAX = 120_000


@dataclass
class Operating(Office):
    """The browser of the other tests, on a product with a saga in every state."""

    work: OfficeProduct = None  # type: ignore[assignment]

    async def operator(self, name: str = "ada", **options: object) -> Page:
        """A window of an operator."""
        return await self.page(name, "operator", **options)  # type: ignore[arg-type]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def office(module_database: Database, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Operating]:
    """The running product, staged, with a vault, and its browser."""
    executable = chromium()
    path = tmp_path_factory.mktemp("keys") / "vault.keys"
    keyfile.create(path)
    also = {"also": (care, visits), "vault_key_file": str(path)}
    async with office_product(module_database, **also) as work, async_playwright() as playwright:  # type: ignore[arg-type]
        await work.stage()
        browser = await playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            yield Operating(work.runtime, work.engine, work.url, work.client, browser, work.app.state.live, work=work)
        finally:
            await browser.close()


async def test_an_operator_un_sticks_a_saga_and_sees_it_move(office: Operating) -> None:
    """From the cause to the saga to the act, with the consequence before the button; the page follows the saga."""
    saga_id = await office.work.begin("bug", key="browser-1")
    page = await office.operator()
    await page.goto("/office/operations")
    row = page.locator("tr", has_text="ZeroDivisionError").first
    await row.locator("summary").click()
    await row.get_by_role("link", name="browser-1").click()
    await expect(page.locator(".need")).to_contain_text("no rules for this country today")
    await page.get_by_role("link", name="Retry").click()
    await expect(page.get_by_text("calls the code of rules again")).to_be_visible()
    await page.get_by_label("Reason").fill("the rules are installed")
    REPAIRED.add("browser-1")
    await page.get_by_role("button", name="Retry rules").click()
    await expect(page.get_by_role("status").filter(has_text="it is tried again")).to_be_visible()
    await expect(page.locator("h1 + .pill")).to_contain_text("waiting for a person: approve")
    await office.work.decide(saga_id, "reject")
    await expect(page.locator("h1 + .pill")).to_contain_text("undone")  # by a hint: nobody has reloaded the page


async def test_work_that_comes_up_is_counted_while_somebody_looks(office: Operating) -> None:
    """The number of stuck sagas follows; the table waits until it is asked for."""
    page = await office.operator()
    await page.goto("/office/operations")
    count = page.locator("#operations-tabs a[aria-current] .count")
    before = int(await count.inner_text())
    rows = await page.locator("tbody tr").count()
    await office.work.begin("bug", key="browser-counted")
    await expect(count).to_have_text(str(before + 1))
    assert await page.locator("tbody tr").count() == rows


async def test_all_sagas_of_a_cause_are_retried_from_a_frozen_list(office: Operating) -> None:
    """Take it, see where it parts from one that ran, preview, give a reason, watch what became of each."""
    for number in range(2):
        await office.work.begin("bug", key=f"browser-many-{number}")
    page = await office.operator("eve")
    await page.goto("/office/operations")
    row = page.locator("tr", has_text="ZeroDivisionError").first
    await row.get_by_role("link", name="Open").click()
    await page.get_by_role("button", name="Take it").click()
    await expect(page.get_by_role("heading", name="It is yours")).to_be_visible()
    await expect(page.get_by_text("They part at record")).to_be_visible()
    await office.assert_accessible(page)
    await page.get_by_role("button", name="Preview retry").click()
    await expect(page.get_by_text("Exactly the sagas listed here")).to_be_visible()
    await office.assert_accessible(page)
    REPAIRED.add("browser-many-0")
    await page.get_by_label("Reason").fill("the rules are installed")
    await page.get_by_role("button", name=re.compile("^Retry")).click()
    await expect(page.locator("#bulk-counts .pill")).to_contain_text("nothing left to do")  # nobody reloads the page
    await expect(page.locator("#bulk-counts")).to_contain_text("1 progressed")
    await page.reload()
    await expect(page.locator("tr", has_text="browser-many-0")).to_contain_text("progressed")
    await expect(page.locator("tr", has_text="browser-many-1")).to_contain_text("failed again")
    await page.set_viewport_size({"width": 390, "height": 800})
    await office.assert_accessible(page)


async def test_an_unknown_outcome_is_settled_by_two_people(office: Operating) -> None:
    """Each in a window of their own; who proposed it cannot confirm it."""
    saga_id = await office.work.begin("lost", key="browser-2")
    first, second = await office.operator("ada"), await office.operator("eve")
    await first.goto(f"/office/sagas/{saga_id}")
    await first.get_by_role("link", name="Settle by evidence").click()
    await first.get_by_role("radio", name="It was done").check()
    await first.get_by_label(re.compile("as JSON")).fill('{"reference": "B-77"}')
    await first.get_by_label("Reason").fill("line 14 of the bank's statement")
    await first.get_by_role("button", name="Settle send").click()
    await expect(first.get_by_role("status").filter(has_text="waits for a second person")).to_be_visible()
    await first.get_by_role("link", name="Review and confirm").click()
    await expect(first.get_by_text("This is your own proposal")).to_be_visible()
    await second.goto(f"/office/sagas/{saga_id}")
    await second.get_by_role("link", name="Review and confirm").click()
    await expect(second.get_by_text("B-77")).to_be_visible()
    await expect(second.get_by_text("line 14 of the bank's statement")).to_be_visible()
    await second.get_by_label("Reason").fill("I have seen the statement too")
    await second.get_by_role("button", name="Confirm for send").click()
    await office.work.until(saga_id, lambda saga: saga.phase == "completed")


async def test_a_message_is_opened_from_its_saga_and_says_where_it_lies(office: Operating) -> None:
    """From the list of messages to the bytes of the reply, and on to the record that it caused."""
    page = await office.operator()
    await page.goto(f"/office/sagas/{office.work.sagas['completed']}?tab=messages")
    await page.get_by_role("link", name="reply", exact=True).first.click()
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Taken in: wires.Held")
    await expect(page.locator("main")).to_contain_text("wires-desk.replies")
    await expect(page.get_by_text("the log still holds the very bytes")).to_be_visible()
    await page.get_by_text("As bytes").click()
    await expect(page.get_by_role("region", name="Value as bytes")).to_contain_text("7b 22")
    await page.locator("dd").get_by_role("link", name=re.compile("record")).first.click()
    await expect(page.locator("tr:target")).to_contain_text("step.succeeded")


async def test_a_dead_letter_is_driven_again_without_scripts(office: Operating) -> None:
    """Its text is shown, never run; it is still wrong, stays, and says why."""
    letter_id = await office.work.poison(b'{"wire_id": "<img src=x onerror=alert(1)>"')
    page = await office.operator(scripts=False)
    await page.goto("/office/operations?tab=letters")
    await page.get_by_role("link", name=str(letter_id), exact=True).click()
    assert await page.locator("main img").count() == 0
    await page.get_by_label("Reason").fill("perhaps now")
    await page.get_by_role("button", name=f"Drive letter {letter_id} again").click()
    await expect(page.get_by_role("alert")).to_contain_text("It stays here")


async def test_an_auditor_searches_as_of_and_exports_what_is_on_screen(office: Operating) -> None:
    """What came later is not there; the file has the rows of the screen and a manifest."""
    saga_id = await office.work.begin("", key="browser-audit")
    assert await office.engine.models.wait_for(f"{saga_id}@7", seconds_max=20)
    then = datetime.now(UTC)
    await office.work.decide(saga_id, "reject", "nora")
    saga = await office.work.until(saga_id, lambda saga: saga.phase == "compensated")
    assert await office.engine.models.wait_for(f"{saga_id}@{saga.record}", seconds_max=20)
    page = await office.page("olga", "auditor")
    await page.goto("/office/audit?key=browser-audit&action=task.")
    await expect(page.locator("tbody tr", has_text="task.voted")).to_have_count(1)
    await page.get_by_role("link", name="task.voted").click()
    await expect(page.get_by_text("This is what nora decided on")).to_be_visible()
    await page.goto(f"/office/audit?key=browser-audit&action=task.&as_of={then.isoformat().replace('+', '%2B')}")
    await expect(page.locator("tbody tr", has_text="task.opened")).to_have_count(1)
    await expect(page.locator("tbody tr", has_text="task.voted")).to_have_count(0)
    shown = await page.locator("tbody tr").count()
    link = await page.get_by_role("link", name="Export JSON Lines").get_attribute("href")
    assert link is not None
    file = await page.request.get(link)  # a download of this browser would not say who asks
    assert "attachment" in file.headers["content-disposition"]
    lines = [json.loads(line) for line in (await file.text()).splitlines()]
    assert len([line for line in lines if "type" in line]) == shown


async def test_every_state_of_a_saga_is_accessible(office: Operating) -> None:
    """The graph of each at desktop width, another tab of each on a phone in the dark: nothing that axe can find."""
    wide, phone = await office.operator(), await office.operator(width=390, scheme="dark")
    tabs = [tab for tab in TABS if tab != "graph"]
    for number, state in enumerate(STATES):
        for page, tab in ((wide, "graph"), (phone, tabs[number % len(tabs)])):
            answer = await page.goto(f"/office/sagas/{office.work.sagas[state]}?tab={tab}")
            assert answer is not None
            assert len(await answer.body()) <= PAGE_BYTES_MAX
            await office.assert_accessible(page)


async def test_a_person_is_erased_by_two_without_scripts(office: Operating) -> None:
    """One asks on a phone, another reads what it would do and confirms; where a name was, it says so."""
    started = await office.engine.start("care", {"case": "browser-care", "mood": "no", **ANNA}, ADA)
    await office.work.until(started.saga_id, lambda saga: saga.phase == "compensated")
    one = await office.operator("ada", scripts=False, width=390)
    await one.goto("/office/erasures")
    asked = one.locator("form", has_text="Ask for an erasure")
    await asked.get_by_label("Whom").fill(ANNA["customer_id"])
    await asked.get_by_label("Request").fill("ER-7")
    await asked.get_by_label("Reason").fill("asked by letter of 26 February")
    await asked.get_by_role("button", name="Ask for the erasure").click()
    await expect(one.get_by_role("status").filter(has_text="Somebody else has to confirm it")).to_be_visible()
    other = await office.operator("eve", scheme="dark")
    await other.goto("/office/erasures")
    await other.get_by_role("link", name="ER-7").click()
    await expect(other.get_by_role("link", name="browser-care")).to_be_visible()
    await office.assert_accessible(other)
    await other.get_by_label("Whom it is about").fill(ANNA["customer_id"])
    await other.get_by_label("I know that it cannot be taken back").check()
    await other.get_by_role("button", name="Erase for ever").click()
    await expect(other.locator("h1 + .pill")).to_contain_text("erased")
    await office.assert_accessible(other)
    await other.get_by_role("link", name="browser-care").click()
    await other.goto(f"/office/sagas/{started.saga_id}?tab=data")
    await expect(other.locator("main")).to_contain_text("[erased under request ER-7, ")
    assert "Annabel" not in await other.content()


@pytest.mark.parametrize("width", [1280, 390])
async def test_every_place_is_accessible(office: Operating, width: int) -> None:
    """Lists, tables, charts and forms; one theme a width."""
    page = await office.page("ada", "operator,auditor,viewer", width=width, scheme="dark" if width == 390 else "light")
    paths = [*PLACES, f"/office/sagas/{office.work.sagas['unknown']}/act/settle?place=%3Fsend"]
    paths.append(f"/office/sagas/{office.work.sagas['waiting']}/act/cancel")
    paths += [f"/office/sagas/{office.work.sagas['completed']}/messages/{record}" for record in (1, 2, 3)]
    for path in paths:
        answer = await page.goto(path)
        assert answer is not None
        assert answer.status == 200, path
        assert len(await answer.body()) <= PAGE_BYTES_MAX
        await office.assert_accessible(page)


async def test_the_graph_is_walked_with_the_keyboard(office: Operating) -> None:
    """Every node is a link with a name, and leads to its line in the list."""
    page = await office.operator()
    await page.goto(f"/office/sagas/{office.work.sagas['waiting']}")
    nodes = page.locator("svg.graph a.node")
    names = await page.locator("svg.graph a.node > title").all_text_contents()
    assert len(names) == await nodes.count()
    assert any(name.startswith("approve, task, waiting") for name in names)
    assert any("point of no return" in name for name in names)
    await nodes.first.focus()
    await page.keyboard.press("Enter")
    await expect(page.locator(".nodes li:target")).to_contain_text("hold")
