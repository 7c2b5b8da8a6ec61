"""Open pages hear of changes: cells change in place, rows wait, a lost stream says so, and nothing leaks or hangs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import httpx2
import pytest
from playwright.async_api import Route, expect

from orchestrator.api.engine import Actor
from orchestrator.pages.live import STREAMS_OF_ONE_MAX
from tests.browser.conftest import Office

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

MARIA = {"X-Actor": "maria", "X-Actor-Roles": "manager,approver"}


async def until(met: Callable[[], bool | Awaitable[bool]]) -> None:
    """Returns when it is so. Raises TimeoutError after twenty seconds."""
    async with asyncio.timeout(20):
        while True:
            found = met()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.05)


async def test_new_rows_wait_and_gone_ones_stay_marked(office: Office) -> None:
    """Rows never move under a pointer: "1 new · show"; what was decided meanwhile says so where it stands."""
    purpose = "for the list that is watched"
    first, second = [await office.start(purpose=purpose) for _ in range(2)]
    page = await office.page()
    await page.goto(f"/office/inbox?tab=groups&text={purpose}")
    await expect(page.locator("#asof")).to_have_attribute("data-live", "on")
    rows = page.locator("[data-row]")
    await expect(rows).to_have_count(2)
    keys = [await rows.nth(at).get_by_role("link").first.get_attribute("href") for at in range(2)]
    task = await office.task_of(first)
    await rows.nth(0).get_by_role("link").first.focus()
    bert = Actor("bert", ("manager",), "test", capacities=frozenset({"approver"}))
    await office.engine.vote(task.id, {"outcome": "reject"}, task.subject_hash, bert, reason="no")
    await office.start(purpose=purpose)
    await expect(page.get_by_role("link", name="1 new · show")).to_be_visible()
    await expect(page.locator("tr.gone")).to_contain_text("reject by bert")
    assert [await rows.nth(at).get_by_role("link").first.get_attribute("href") for at in range(2)] == keys
    focused = await page.evaluate("document.activeElement.getAttribute('href')")
    assert focused == keys[0], "the focus stays where it was"
    await page.get_by_role("link", name="1 new · show").click()
    await expect(rows).to_have_count(2)
    await expect(page.locator("tr.gone")).to_have_count(0)
    assert (await office.task_of(second)).state == "open"


async def test_an_escalation_appears_by_itself(office: Office) -> None:
    """The head sees the task when its time has come, without a reload of theirs."""
    page = await office.page("hera", "head,approver")
    await page.goto("/office/inbox?tab=groups")
    await expect(page.get_by_role("heading", name="Nothing waits for your groups")).to_be_visible()
    await office.start("slow")
    await expect(page.get_by_role("link", name="1 new · show")).to_be_visible()
    await page.get_by_role("link", name="1 new · show").click()
    row = page.locator("[data-row]")
    await row.get_by_text("why here?").click()
    await expect(row).to_contain_text("escalated")


async def test_a_page_whose_stream_is_lost_says_so_and_decides_nothing(office: Office) -> None:
    """Live updates paused, with the age of what is shown; after a minute the button is off until it is reloaded."""
    task = await office.task_of(await office.start())
    page = await office.page()
    await page.clock.install()

    async def away(route: Route) -> None:
        await route.abort()

    await page.route("**/office/live*", away)
    await page.goto(f"/office/tasks/{task.id}")
    await page.clock.fast_forward(30_000)
    await expect(page.locator("#live-words")).to_contain_text("live updates paused, data 3")
    await expect(page.locator("[data-decide]")).to_be_enabled()
    await page.clock.fast_forward(40_000)
    await expect(page.locator("[data-decide]")).to_be_disabled()
    await expect(page.get_by_text("Reload the page before you decide")).to_be_visible()
    office.complaints.clear()  # the browser's own words for a connection that was cut


async def test_streams_of_one_person_are_limited_and_given_back(office: Office) -> None:
    """The next one is told to come later; others are not concerned; a closed one makes room."""
    async with httpx2.AsyncClient(base_url=office.url, trust_env=False, timeout=30) as client:
        opened = [client.stream("GET", "/office/live?topics=tasks", headers=MARIA) for _ in range(STREAMS_OF_ONE_MAX)]
        answers = [await each.__aenter__() for each in opened]
        assert {answer.status_code for answer in answers} == {200}
        refused = await client.get("/office/live?topics=tasks", headers=MARIA)
        assert (refused.status_code, "Retry-After" in refused.headers) == (429, True)
        async with client.stream("GET", "/office/live?topics=tasks", headers={**MARIA, "X-Actor": "bert"}) as other:
            assert other.status_code == 200
        for each in opened:
            await each.__aexit__(None, None, None)
    await until(lambda: office.live.streams == 0)


async def test_a_stream_tells_topics_and_positions_alone(office: Office) -> None:
    """No id, no name, no amount: whoever listens learns nothing but that something changed."""
    secret = "nobody may hear this"
    async with office.client.stream("GET", "/office/live?topics=tasks,sagas", headers=MARIA) as stream:
        heard = ""
        lines = stream.aiter_text()
        await office.start(purpose=secret)
        async with asyncio.timeout(20):
            while "hint-tasks" not in heard:
                heard += await anext(lines)
    fields = {line.partition(":")[0] for line in heard.splitlines() if line}
    assert fields <= {"event", "data", "retry"}
    assert secret not in heard
    assert "GR-" not in heard


async def test_bad_topics_are_refused(office: Office) -> None:
    """Also too many of them."""
    for topics in ("", "everything", "saga:", "saga:../../x", ",".join(f"saga:{each}" for each in range(20))):
        answer = await office.client.get("/office/live", params={"topics": topics}, headers=MARIA)
        assert answer.status_code == 400, topics
