"""A large amount takes a recent sign-in: the whole way in a real browser, to a real provider and back to the task."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from orchestrator.api.views import Actor
from tests.browser.conftest import AXE, AXE_RULES, chromium
from tests.databases import Database
from tests.identity.bank import Bank, running_bank

pytestmark = [
    pytest.mark.browser,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.filterwarnings("ignore:get_jwt_config"),  # the provider's package, with a newer Authlib
]

LARGE = "250000"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bank(module_database: Database) -> AsyncIterator[Bank]:
    """The running product with its provider."""
    async with running_bank(module_database) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    """A browser that nobody has signed in with."""
    executable = chromium()
    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield found
        await found.close()


async def at_the_provider(page: Page, person: str) -> None:
    """Shows there who they are."""
    await expect(page.get_by_role("heading", name="Authorize Client")).to_be_visible()
    await page.get_by_placeholder("sub").fill(person)
    await page.get_by_role("button", name="Authorize", exact=True).click()


async def decide(page: Page) -> None:
    """Presses the button that decides, and confirms where that is asked."""
    await page.locator("[data-decide]").click()
    confirm = page.get_by_role("heading", name="Check and confirm")
    refused = page.get_by_role("alert")
    await expect(confirm.or_(refused).first).to_be_visible()
    if await confirm.is_visible():
        await page.locator("main form button.button-main, main form button[data-decide]").first.click()


async def test_somebody_signs_in_again_and_finds_what_they_typed(bank: Bank, browser: Browser) -> None:
    """Refused for a sign-in of long ago; after a new one the task is there with the reason, and the vote counts."""
    saga_id = await bank.start(amount=LARGE)
    task = await bank.task(saga_id)
    page = await (await browser.new_context(base_url=str(bank.client.base_url))).new_page()
    await page.goto(f"/office/tasks/{task['id']}")
    await page.get_by_role("link", name=re.compile("organisation")).click()
    await at_the_provider(page, "ap1")
    await expect(page).to_have_url(re.compile("/office/tasks/"))
    await bank.owner.execute("UPDATE sessions SET authenticated_at = authenticated_at - interval '1 hour'")
    await page.get_by_role("radio", name="Approve").check()
    await page.get_by_label(re.compile("^Reason")).fill("seen at the branch")
    before = await bank.records()
    await decide(page)
    again = page.get_by_role("link", name="Sign in again")
    await expect(again).to_be_visible()
    await expect(page.get_by_role("alert").first).to_contain_text("Nothing was recorded")
    assert await bank.records() == before
    await page.evaluate(AXE)
    found = await page.evaluate("rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']})", AXE_RULES)
    assert found["violations"] == []
    await again.click()
    await at_the_provider(page, "ap1")
    await expect(page).to_have_url(re.compile("/office/tasks/"))
    assert await page.get_by_label(re.compile("^Reason")).input_value() == "seen at the branch"
    await expect(page.get_by_role("radio", name="Approve")).to_be_checked()
    await decide(page)
    await expect(page.get_by_role("status").first).to_be_visible()
    (vote,) = [one for one in await bank.engine.records(saga_id, Actor("ap1")) if one.type == "task.voted"]
    assert vote.actor == "person:ap1"
    assert "seen at the branch" in str(vote.data)
