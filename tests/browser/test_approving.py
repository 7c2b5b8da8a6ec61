"""People decide in a real browser: approve, reject, four eyes, two at once, with keys alone, without scripts."""

from __future__ import annotations

import asyncio
import re

import pytest
from playwright.async_api import Page, expect

from orchestrator.api.views import Actor
from orchestrator.identity.local import local_user, seed
from tests.browser.conftest import Office

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


def task_url(task_id: str) -> str:
    """The page of a task."""
    return f"/office/tasks/{task_id}"


async def choose(page: Page, outcome: str, reason: str = "") -> None:
    """Fills in the form and sends it."""
    await page.get_by_role("radio", name=outcome).check()
    if reason:
        await page.get_by_label(re.compile("^Reason")).first.fill(reason)
    await page.locator("[data-decide]").click()


async def test_a_manager_approves_from_the_inbox(office: Office) -> None:
    """Open, read what follows, choose, confirm what cannot be undone; the saga goes on at once."""
    saga_id = await office.start()
    task = await office.task_of(saga_id)
    page = await office.page()
    await page.goto("/office")
    row = page.locator("[data-row]", has_text=task.business_key)
    await expect(row).to_contain_text("6,000.00")
    await row.get_by_role("link").first.click()
    await expect(page.locator(".outlook").first).to_contain_text("cannot be undone")
    await expect(page.locator(".outlook").first).to_contain_text("INR6,000.00")
    assert await page.locator("input[name=outcome]:checked").count() == 0, "nothing is preselected"
    await choose(page, "Approve", "known to me")
    await expect(page.get_by_role("heading", name="Check and confirm")).to_be_visible()
    assert "task.voted" not in await office.types(saga_id), "nothing is recorded before it is confirmed"
    await page.get_by_role("button", name=re.compile("Approve 6,000.00 INR")).click()
    await expect(page.get_by_role("status").filter(has_text="Your decision is recorded")).to_be_visible()
    await expect(page.locator(".timeline")).to_contain_text("Voted: approve by maria")
    await office.until(saga_id, "completed")


async def test_a_rejection_needs_a_reason_and_turns_the_saga_back(office: Office) -> None:
    """The browser asks for it, and so does the server; the saga says why it turned back."""
    saga_id = await office.start()
    task = await office.task_of(saga_id)
    page = await office.page()
    await page.goto(task_url(task.id))
    await choose(page, "Reject")
    assert "task.voted" not in await office.types(saga_id)
    await choose(page, "Reject", "not known to us")
    await expect(page.get_by_role("status").filter(has_text="Your decision is recorded")).to_be_visible()
    await office.until(saga_id, "compensated")
    voted = [record for record in await office.engine.records(saga_id, Actor("test")) if record.type == "task.voted"]
    assert voted[0].data["vote"]["reason"] == "not known to us"


async def test_four_eyes_are_named_and_nothing_is_offered(office: Office) -> None:
    """Who asked sees why they cannot decide and who can; a form sent all the same is refused with the rule."""
    saga_id = await office.start(requester="maria")
    task = await office.task_of(saga_id)
    page = await office.page()
    await page.goto(task_url(task.id))
    await expect(page.get_by_text("You cannot decide this")).to_be_visible()
    await expect(page.locator(".rights")).to_contain_text("Excluded (four eyes)")
    assert await page.locator("[data-decide]").count() == 0
    sent = await office.client.post(
        task_url(task.id) + "/decide",
        data={"outcome": "approve", "seen": task.subject_hash, "key": "k", "confirmed": "yes"},
        headers={"X-Actor": "maria", "X-Actor-Roles": "manager,approver", "Accept": "text/html"},
    )
    assert sent.status_code == 403
    assert "<code>excluded</code>" in sent.text
    assert "Nothing was recorded" in sent.text
    assert "task.voted" not in await office.types(saga_id)


async def test_the_second_of_two_is_told_who_decided(office: Office) -> None:
    """Both have the page open; one is first; the other gets 409 with who and what, and what they typed is there."""
    saga_id = await office.start()
    task = await office.task_of(saga_id)
    first, second = await office.page("maria"), await office.page("bert", scripts=False)
    await asyncio.gather(first.goto(task_url(task.id)), second.goto(task_url(task.id)))
    await choose(first, "Reject", "no")
    await expect(first.get_by_role("status").filter(has_text="Your decision is recorded")).to_be_visible()
    async with second.expect_navigation() as gone:
        await choose(second, "Reject", "also no")
    answer = await gone.value
    assert answer is not None
    assert answer.status == 409
    alert = second.get_by_role("alert")
    await expect(alert).to_contain_text("maria decided reject")
    await expect(alert).to_contain_text("Nothing was recorded")
    assert (await office.types(saga_id)).count("task.voted") == 1


async def test_a_changed_subject_is_not_decided_on(office: Office) -> None:
    """The open page locks and says so; a form sent from the old one is 409 with the fields that changed, text kept."""
    saga_id = await office.start()
    task = await office.task_of(saga_id)
    page = await office.page()
    await page.goto(task_url(task.id))
    await page.get_by_role("radio", name="Reject").check()
    await page.get_by_label(re.compile("^Reason")).first.fill("half typed")
    await office.change(task.business_key, "9000.00")
    await expect(page.locator("#now")).to_contain_text("has changed since you opened this page")
    await expect(page.locator("[data-decide]")).to_be_disabled()
    sent = await office.client.post(
        task_url(task.id) + "/decide",
        data={"outcome": "reject", "reason": "half typed", "seen": task.subject_hash, "key": "k"},
        headers={"X-Actor": "maria", "X-Actor-Roles": "manager,approver", "Accept": "text/html"},
    )
    assert sent.status_code == 409
    assert "half typed" in sent.text
    assert "6,000.00" in sent.text.partition("You saw")[2]
    assert "9,000.00" in sent.text.partition("It is now")[2]
    assert "task.voted" not in await office.types(saga_id)


async def test_two_of_a_committee_agree(office: Office) -> None:
    """The first vote says that nothing happens yet; the second decides."""
    saga_id = await office.start("two")
    task = await office.task_of(saga_id)
    one = await office.page("carla", "committee,approver")
    await one.goto(task_url(task.id))
    await expect(one.locator(".outlook").first).to_contain_text("number 1 of 2")
    await choose(one, "Approve", "yes")
    await expect(one.get_by_role("status").filter(has_text="Your vote is recorded")).to_be_visible()
    await expect(one.get_by_text("You cannot decide this")).to_be_visible()
    other = await office.page("dora", "committee,approver")
    await other.goto(task_url(task.id))
    await expect(other.locator(".outlook").first).to_contain_text("cannot be undone")
    await choose(other, "Approve", "yes")
    await other.get_by_role("button", name=re.compile("Approve 6,000.00")).click()
    await expect(other.get_by_role("status").filter(has_text="Your decision is recorded")).to_be_visible()
    await office.until(saga_id, "completed")


async def test_everything_that_decides_works_without_scripts(office: Office) -> None:
    """Claim, comment, draft, confirm, decide: plain forms."""
    saga_id = await office.start()
    task = await office.task_of(saga_id)
    page = await office.page("bert", scripts=False)
    await page.goto("/office/inbox?tab=groups&text=" + task.business_key)
    await page.locator("[data-row]", has_text=task.business_key).get_by_role("button", name="Claim").click()
    await expect(page.locator("[data-row]", has_text=task.business_key)).to_contain_text("you")
    await page.goto(task_url(task.id))
    await page.get_by_label("Add a comment").fill("looked at it")
    await page.get_by_role("button", name="Comment").click()
    await expect(page.locator("#comments-title + article")).to_contain_text("looked at it")
    await page.get_by_role("radio", name="Approve").check()
    await page.get_by_label(re.compile("^Reason")).first.fill("draft text")
    await page.get_by_role("button", name="Save draft").click()
    assert await page.get_by_label(re.compile("^Reason")).first.input_value() == "draft text"
    await page.locator("[data-decide]").click()
    await page.get_by_role("button", name=re.compile("Approve 6,000.00")).click()
    await expect(page.get_by_role("status").filter(has_text="Your decision is recorded")).to_be_visible()
    await office.until(saga_id, "completed")


async def test_a_keyboard_is_enough(office: Office) -> None:
    """From the inbox to the recorded decision without a mouse; no single key decides."""
    saga_id = await office.start()
    task = await office.task_of(saga_id)
    page = await office.page()
    await page.goto("/office/inbox?tab=groups&text=" + task.business_key)
    await page.keyboard.press("j")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Your decision")).to_be_visible()
    for key in ("a", "y", "c", "x", "Enter"):
        await page.keyboard.press(key)
    assert "task.voted" not in await office.types(saga_id)
    await page.goto(task_url(task.id))
    await page.locator("input[name=outcome]").first.focus()
    await page.keyboard.press("Space")
    await page.keyboard.press("Tab")
    await page.keyboard.type("seen")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name="Check and confirm")).to_be_visible()
    await page.get_by_role("button", name=re.compile("^Approve")).focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("status").filter(has_text="Your decision is recorded")).to_be_visible()
    await office.until(saga_id, "completed")


async def test_a_form_of_several_fields_keeps_what_was_typed(office: Office) -> None:
    """Both sides check: the server's errors are linked to their fields, and every text is still there."""
    saga_id = await office.start("form")
    task = await office.task_of(saga_id)
    page = await office.page(scripts=False)
    await page.goto(task_url(task.id))
    sent = await office.client.post(
        task_url(task.id) + "/decide",
        data={
            "outcome": "partial_grant", "form.rationale": "short", "form.percentage": "400", "form.charge": "1.234,56",
            "seen": task.subject_hash, "key": "k", "confirmed": "yes",
        },
        headers={"X-Actor": "maria", "X-Actor-Roles": "manager,approver", "Accept": "text/html"},
    )  # fmt: skip
    assert sent.status_code == 422
    for part in ('href="#form-rationale"', 'href="#form-percentage"', 'href="#form-charge"', "1.234,56", ">short<"):
        assert part in sent.text, part
    await page.get_by_role("radio", name="Partial grant").check()
    await page.get_by_label("Rationale").fill("Half of it is covered elsewhere.")
    await page.get_by_label("Percentage").fill("50")
    await page.get_by_label("Charge").fill("12.50")
    await page.locator("[data-decide]").click()
    await page.get_by_role("button", name=re.compile("^Partial grant")).click()
    await expect(page.get_by_role("status").filter(has_text="Your decision is recorded")).to_be_visible()
    (decided,) = [
        record for record in await office.engine.records(saga_id, Actor("test")) if record.type == "task.decided"
    ]
    answer = decided.data["decision"]["answer"]
    assert (answer["percentage"], answer["charge"], answer["press"]) == (50, "12.50", False)


async def test_a_double_click_is_one_record(office: Office) -> None:
    """The button locks, and the form's key makes a second request the same one."""
    saga_id = await office.start()
    task = await office.task_of(saga_id)
    form = {"outcome": "reject", "reason": "no", "seen": task.subject_hash, "key": "one-form"}
    headers = {"X-Actor": "maria", "X-Actor-Roles": "manager,approver", "Accept": "text/html"}
    answers = await asyncio.gather(
        *(office.client.post(task_url(task.id) + "/decide", data=form, headers=headers) for _ in range(4))
    )
    assert {answer.status_code for answer in answers} == {303}
    assert (await office.types(saga_id)).count("task.voted") == 1


async def test_looking_records_nothing(office: Office) -> None:
    """GET, HEAD and prefetches of every address of a task, the deciding ones too."""
    saga_id = await office.start()
    task = await office.task_of(saga_id)
    before = await office.types(saga_id)
    headers = {"X-Actor": "maria", "X-Actor-Roles": "manager,approver", "Purpose": "prefetch"}
    for path in ("", "/now", "/decide", "/claim", "/release", "/comment"):
        for method in ("GET", "HEAD"):
            await office.client.request(method, task_url(task.id) + path, headers=headers)
    page = await office.page()
    await page.goto(task_url(task.id))
    await expect(page.get_by_role("heading", name="Your decision")).to_be_visible()
    assert await office.types(saga_id) == before


@pytest.mark.parametrize("scripts", [True, False])
async def test_somebody_signs_in_decides_and_signs_out(office: Office, scripts: bool) -> None:
    """With a session's cookie, its token in every form, and nothing left behind; scripts or none."""
    await seed(
        office.runtime.store.pools,
        [local_user("asha", "Asha Rao", capacities={"approver"}, roles=["manager"], about="Decides grants")],
    )
    saga_id = await office.start()
    task = await office.task_of(saga_id)
    page = await office.page("", scripts=scripts)
    await page.goto(task_url(task.id))
    await page.get_by_role("button", name="Sign in as Asha Rao").click()
    await expect(page.get_by_role("heading", name="Your decision")).to_be_visible()
    await page.get_by_label("Add a comment").fill("signed in")
    await page.get_by_role("button", name="Comment").click()
    await expect(page.locator("#comments-title + article")).to_contain_text("signed in")
    await choose(page, "Reject", "not now")
    await expect(page.get_by_role("status").filter(has_text="Your decision is recorded")).to_be_visible()
    await office.until(saga_id, "compensated")
    (voted,) = [record for record in await office.engine.records(saga_id, Actor("test")) if record.type == "task.voted"]
    assert (voted.actor, voted.data["vote"]["authentication"]) == ("person:asha", "local-user")
    await page.locator("details.who > summary").click()
    await page.get_by_role("button", name="Sign out").click()
    await expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()
    await page.goto(task_url(task.id))
    await expect(page.get_by_role("heading", name="Sign in", exact=True)).to_be_visible()


async def test_a_session_warns_before_it_ends_and_can_be_kept(office: Office) -> None:
    """Two minutes before, with a way to stay; afterwards it says that it is over."""
    await seed(office.runtime.store.pools, [local_user("asha", "Asha Rao", capacities={"approver"}, roles=["manager"])])
    page = await office.page("")
    await page.clock.install()
    await page.goto("/office/inbox")
    await page.get_by_role("button", name="Sign in as Asha Rao").click()
    await expect(page.get_by_role("heading", name="Inbox")).to_be_visible()
    idle = int(await page.locator("body").get_attribute("data-idle") or 0)
    warning = page.locator("#session")
    await expect(warning).to_be_hidden()
    await page.clock.fast_forward(idle - 110_000)
    await expect(warning).to_contain_text("You will be signed out in 2 min")
    await office.assert_accessible(page)
    await warning.get_by_role("button", name="Stay signed in").click()
    await expect(warning).to_be_hidden()
    await page.clock.fast_forward(idle + 1_000)
    await expect(warning).to_contain_text("You are signed out.")
    office.complaints.clear()  # the fast clock tears the stream, and the browser says so
