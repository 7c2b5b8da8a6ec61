"""Every page of approvers, in both themes, wide and narrow: accessible, light, and without a word from the browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.async_api import Page, Response, expect

from orchestrator.api.engine import Actor
from tests.browser.conftest import Office

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

PAGE_BYTES_MAX = 120_000  # with assets, as they go over the wire


async def addresses(office: Office) -> dict[str, str]:
    """The pages by name."""
    asked = await office.start(amount="12500.00", purpose="A long purpose. " * 12 + "pay\u202eload to Kir\u0430n")
    form = await office.start("form")
    over = await office.start("brief")
    done = await office.start()
    ids = {name: (await office.task_of(saga)).id for name, saga in
           {"asked": asked, "form": form, "expired": over, "decided": done}.items()}  # fmt: skip
    task = await office.task_of(done)
    maria = Actor("maria", ("manager",), "test", capacities=frozenset({"approver"}))
    await office.engine.desk.comment(ids["asked"], maria, "Who is this?")
    await office.engine.desk.claim(ids["asked"], maria)
    await office.engine.vote(ids["decided"], {"outcome": "reject"}, task.subject_hash, maria, reason="no")
    return {
        "inbox": "/office/inbox?tab=groups",
        "nothing found": "/office/inbox?tab=groups&text=nobody-has-this",
        "nothing there": "/office/inbox?tab=claimed&due=overdue",
        "waiting for others": "/office/inbox?tab=others",
        **{f"task {name}": f"/office/tasks/{task_id}" for name, task_id in ids.items()},
        "decisions": "/office/decisions",
        "profile": "/office/profile",
        "help": "/office/help",
        "sign in": "/office/login",
        "not found": "/office/tasks/nothing:there",
    }


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (320, "dark")])
async def test_pages_are_accessible(office: Office, width: int, scheme: str) -> None:
    """axe finds nothing, and nothing scrolls sideways down to 320 px."""
    page = await office.page(width=width, scheme=scheme)
    for address in (await addresses(office)).values():
        await page.goto(address, wait_until="domcontentloaded")
        await office.assert_accessible(page)


async def test_what_opens_is_accessible_too(office: Office) -> None:
    """Menus, folds, the list of keys, the page that confirms, a page with errors."""
    task = await office.task_of(await office.start("form"))
    page = await office.page(width=390)
    await page.goto(f"/office/tasks/{task.id}")
    await page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
    await office.assert_accessible(page)
    await page.get_by_role("radio", name="Full grant").check()
    await page.get_by_label("Rationale").fill("It is all in order.")
    await page.locator("[data-decide]").click()
    await expect(page.get_by_role("heading", name="Check and confirm")).to_be_visible()
    await office.assert_accessible(page)
    await page.get_by_role("link", name="Back, decide nothing").click()
    assert await page.get_by_label("Rationale").input_value() == "It is all in order."
    wide = await office.page()
    await wide.goto("/office/inbox?tab=groups")
    await wide.keyboard.press("?")
    await expect(wide.get_by_role("heading", name="Keys")).to_be_visible()
    await office.assert_accessible(wide)


def kept(page: Page) -> list[Response]:
    """What the page is sent from now on."""
    answers: list[Response] = []

    def on_response(answer: Response) -> None:  # the driver cannot take a method of a list
        answers.append(answer)

    page.on("response", on_response)
    return answers


def keeping(answers: list[Response]) -> Callable[[Response], None]:
    """What keeps answers in this list. (The driver marks what listens, and a method of a list cannot be marked.)"""

    def keep(answer: Response) -> None:
        answers.append(answer)

    return keep


async def test_a_page_weighs_little(office: Office) -> None:
    """With all its assets, over the wire, for somebody who was never here."""
    task = await office.task_of(await office.start())
    for address in ("/office/inbox?tab=groups", f"/office/tasks/{task.id}"):
        page = await office.page()
        answers = kept(page)
        await page.goto(address)
        await expect(page.locator("#asof")).to_have_attribute("data-live", "on")
        sizes = {}
        for answer in answers:
            if "/office/live" not in answer.url:
                sizes[answer.url] = (await answer.request.sizes())["responseBodySize"]
        assert 10_000 < sum(sizes.values()) <= PAGE_BYTES_MAX, sizes


async def test_odd_characters_are_marked_before_somebody_decides(office: Office) -> None:
    """An override of the direction, and a letter that only looks like ours."""
    saga_id = await office.start(purpose="pay\u202eload to Kir\u0430n")
    page = await office.page()
    await page.goto(f"/office/tasks/{(await office.task_of(saga_id)).id}")
    await expect(page.locator(".subject")).to_contain_text("U+202E right-to-left override")
    await expect(page.locator(".subject")).to_contain_text("cyrillic small letter a")


async def test_colours_are_not_needed(office: Office) -> None:
    """Forced colours and a print keep every word; a state is an icon and a word, too."""
    task = await office.task_of(await office.start())
    page = await office.page()
    await page.emulate_media(forced_colors="active")
    await page.goto(f"/office/tasks/{task.id}")
    await expect(page.locator(".env")).to_be_visible()
    await expect(page.get_by_text("This cannot be undone.")).to_be_visible()
    await page.emulate_media(media="print", forced_colors="none")
    await expect(page.locator("nav").first).to_be_hidden()
    await expect(page.get_by_text("Printed ")).to_be_visible()
    await expect(page.locator(".timeline")).to_be_visible()
