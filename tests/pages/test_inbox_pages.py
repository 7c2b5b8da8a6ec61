"""The inbox and what belongs to it, over HTTP: tabs, filters, several at once, saved views, settings, and refusals."""

from __future__ import annotations

import re
import uuid
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest

from orchestrator.api.views import Actor, RefusedError, TaskView
from orchestrator.pages.formats import Reader
from orchestrator.pages.site import templates
from tests.pages.office import OfficeProduct
from tests.pages.rendered import shell

pytestmark = pytest.mark.asyncio(loop_scope="module")

HTML = {"Accept": "text/html"}
MANAGER = "manager,approver"
FILE = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\nc\r\n--x--\r\n'


async def task_of(office: OfficeProduct, saga_id: str) -> TaskView:
    """The open task of a saga."""
    (task,) = await office.engine.tasks(saga_id=saga_id, tenant="main")
    return task


def rows(text: str) -> list[str]:
    """The business keys on a page, in its order."""
    return re.findall(r'<span class="soft">wire <bdi>([^<]+)</bdi></span>', text)


async def test_tabs_tell_own_work_from_a_groups(office: OfficeProduct) -> None:
    """Without a tab: the group's, where nothing is asked of me alone. Who asked sees it as waiting for others."""
    key = f"W-{uuid.uuid4().hex[:8]}"
    await office.begin(key=key, requester="rita")
    first = await office.get("/office/inbox", "maria", MANAGER)
    assert key in rows(first.text)
    assert 'aria-current="page">My groups' in first.text
    assert key not in rows((await office.get("/office/inbox?tab=me", "maria", MANAGER)).text)
    waiting = await office.get("/office/inbox?tab=others", "rita", MANAGER)
    assert key in rows(waiting.text)
    assert key not in rows((await office.get("/office/inbox?tab=groups", "rita", MANAGER)).text)
    everything = await office.get("/office/inbox?tab=all", "olga", "operator")
    assert key in rows(everything.text)
    assert (await office.get("/office/inbox?tab=all", "maria", MANAGER)).status_code == 403
    assert (await office.get("/office/inbox/rows?tab=all", "maria", MANAGER)).status_code == 403


async def test_filters_stand_in_the_address(office: OfficeProduct) -> None:
    """By text, amount, time and kind; a filter never widens, and none of them is an injection."""
    small, large = f"W-{uuid.uuid4().hex[:8]}", f"W-{uuid.uuid4().hex[:8]}"
    await office.begin(key=small, amount="6100", requester="rita")
    await office.begin(key=large, amount="777000", requester="rita")

    async def found(query: str) -> list[str]:
        answer = await office.get(f"/office/inbox?tab=groups&{query}", "maria", MANAGER)
        assert answer.status_code == 200, query
        return rows(answer.text)

    assert await found(f"text={large.lower()}") == [large]
    assert large in await found("least=700000")
    assert small not in await found("least=700,000.00")
    assert await found("least=700,000") == [], "it may be either of two numbers: nothing rather than too much"
    unclear = await office.get("/office/inbox?tab=groups&least=700,000", "maria", MANAGER)
    assert "Nothing was looked for" in unclear.text
    assert large not in await found("most=7000")
    assert await found(f"text={small}&due=overdue") == []
    assert await found(f"text={small}&due=week") == [small]
    assert await found(f"text={small}&kind=wire") == [small]
    assert await found(f"text={small}&kind=order") == []
    for strange in ("text=%27%20OR%201%3D1--", "due=never", "least=1,25", "tab=nonsense", "cursor="):
        await found(strange)
    assert (await office.get("/office/inbox?tab=groups&cursor=x", "maria", MANAGER)).status_code == 400


async def test_several_are_claimed_at_once_and_each_is_told(office: OfficeProduct) -> None:
    """One record each; what was refused says why, and the others are done all the same."""
    ids = [(await task_of(office, await office.begin(requester="rita"))).id for _ in range(2)]
    await office.post(f"/office/tasks/{ids[1]}/claim", {"x": ""}, "bert", MANAGER)
    answer = await office.client.post(
        "/office/inbox/several",
        data={"act": "claim", "task": [*ids, "nothing:here"], "view": "tab=claimed"},
        headers={"X-Actor": "maria", "X-Actor-Roles": MANAGER, "Origin": office.url},
    )
    assert answer.status_code == 200
    assert "1 of 3 done" in answer.text
    assert "bert works on this task" in answer.text
    assert (await task_of(office, ids[0].partition(":")[0])).claimed_by == "maria"
    assert len(rows(answer.text)) == 1, "the tab of what I hold"
    bad = await office.post("/office/inbox/several", {"act": "approve", "task": ids[0]}, "maria", MANAGER)
    assert bad.status_code == 400, "nobody approves several at once"


async def test_views_are_saved_shared_and_removed(office: OfficeProduct) -> None:
    """A shared one opens for a colleague; one's own alone for oneself; only lists of ours can be saved."""
    form = {"name": "Large ones", "path": "/office/inbox", "view": "tab=groups&least=700000&cursor=abc"}
    kept = await office.post("/office/views", form, "maria", MANAGER)
    address = kept.headers["location"]
    assert (await office.get(address, "maria")).headers["location"] == "/office/inbox?tab=groups&least=700000"
    assert (await office.get(address, "bert", MANAGER)).status_code == 404
    shared = await office.post("/office/views", {**form, "name": "Ours", "shared": "true"}, "maria", MANAGER)
    assert (await office.get(shared.headers["location"], "bert", MANAGER)).status_code == 303
    assert "Ours" in (await office.get("/office/inbox", "bert", MANAGER)).text
    assert "Large ones" not in (await office.get("/office/inbox", "bert", MANAGER)).text
    await office.post(shared.headers["location"] + "/remove", {"x": ""}, "bert", MANAGER)
    assert (await office.get(shared.headers["location"], "bert", MANAGER)).status_code == 303, "not bert's to remove"
    await office.post(address + "/remove", {"x": ""}, "maria", MANAGER)
    assert (await office.get(address, "maria")).status_code == 404
    for path in ("https://evil.example/office/inbox", "//evil.example", "/v1/tasks", "/office//evil"):
        assert (await office.post("/office/views", {**form, "path": path}, "maria", MANAGER)).status_code == 400, path
    for name in ("", " ", "x" * 81, "a\nb"):
        assert (await office.post("/office/views", {**form, "name": name}, "maria", MANAGER)).status_code == 400


async def test_settings_change_how_pages_are_read(office: OfficeProduct) -> None:
    """Zone, locale, theme and shortcuts are the person's, on every machine; what is none is refused and kept typed."""
    form = {"zone": "Asia/Kolkata", "locale": "en_IN", "theme": "dark"}
    assert (await office.post("/office/profile", form, "zoe", MANAGER)).status_code == 303
    await office.begin(amount="1234567.5", requester="rita")
    text = (await office.get("/office/inbox?tab=groups&least=1000000", "zoe", MANAGER)).text
    assert 'data-theme="dark"' in text
    assert 'data-shortcuts="off"' in text
    assert "12,34,567.5" in text
    assert "(IST)" in text
    other = (await office.get("/office/inbox?tab=groups", "maria", MANAGER)).text
    assert 'data-theme="dark"' not in other
    wrong = await office.post("/office/profile", {**form, "zone": "Mars/Base <b>"}, "zoe", MANAGER)
    assert wrong.status_code == 422
    assert 'href="#zone"' in wrong.text
    assert 'value="Mars/Base &lt;b&gt;"' in wrong.text


async def test_people_say_when_and_how_they_are_told(office: OfficeProduct) -> None:
    """Kept with who changed it; what makes no sense is refused at its form, and nobody is given another address."""
    shown = (await office.get("/office/profile", "nina", MANAGER)).text
    assert "How you are told" in shown
    form = {
        "channel": "mail", "delivery": "digest", "digest_at": "07:30", "quiet_from": "22:00", "quiet_to": "06:00",
        "notice_zone": "Asia/Kolkata",
    }  # fmt: skip
    assert (await office.post("/office/profile/notices", form, "nina", MANAGER)).status_code == 303
    again = (await office.get("/office/profile", "nina", MANAGER)).text
    assert 'value="digest" checked' in again
    assert 'value="07:30"' in again
    assert 'value="Asia/Kolkata"' in again
    assert "person:nina" in again
    other = (await office.get("/office/profile", "otto", MANAGER)).text
    assert 'value="digest" checked' not in other
    for name, value in (
        ("digest_at", "25:00"),
        ("notice_zone", "Mars/<b>"),
        ("delivery", "never"),
        ("channel", "webhook"),
    ):
        wrong = await office.post("/office/profile/notices", {**form, name: value}, "nina", MANAGER)
        assert wrong.status_code == 422, name
        assert "How you are told:" in wrong.text
        assert "<b>" not in wrong.text


async def test_a_substitute_sees_and_decides_what_is_asked_of_the_absent(office: OfficeProduct) -> None:
    """Arranged on the profile; the vote says on whose behalf; taken back, it is over."""
    saga_id = await office.begin(requester="rita")
    task = await task_of(office, saga_id)
    arranged = await office.post(
        "/office/profile/absence", {"substitute": "sven", "until": "2099-01-01T10:00"}, "maria", MANAGER
    )
    assert arranged.status_code == 422, "190 days at most"
    until = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M")
    arranged = await office.post("/office/profile/absence", {"substitute": "sven", "until": until}, "maria", MANAGER)
    assert arranged.status_code == 303
    page = await office.get(f"/office/tasks/{task.id}", "sven", "approver")
    assert "you stand in for maria" in page.text
    form = {"outcome": "reject", "reason": "no", "seen": task.subject_hash, "key": uuid.uuid4().hex}
    decided = await office.post(f"/office/tasks/{task.id}/decide", form, "sven", "approver")
    assert decided.status_code == 303, decided.text[:300]
    after = await office.get(decided.headers["location"], "sven", "approver")
    assert "On behalf of" in after.text
    (number,) = re.findall(r"/office/profile/absence/(\d+)/end", (await office.get("/office/profile", "maria")).text)
    assert (await office.post(f"/office/profile/absence/{number}/end", {"x": ""}, "maria", MANAGER)).status_code == 303
    other = await task_of(office, await office.begin(requester="rita"))
    assert (await office.get(f"/office/tasks/{other.id}", "sven", "approver")).status_code == 404


async def test_who_has_two_rights_chooses_one_on_the_page(office: OfficeProduct) -> None:
    """Both are offered; the page between repeats for whom; the vote keeps it."""
    task = await task_of(office, await office.begin(requester="rita"))
    path = f"/office/tasks/{task.id}"
    assert (await office.post(path + "/delegate", {"to": "kim"}, "maria", MANAGER)).status_code == 303
    page = (await office.get(path, "kim", MANAGER)).text
    assert 'value="kim">your own' in page
    assert 'value="maria">on behalf of maria' in page
    form = {"outcome": "approve", "reason": "", "seen": task.subject_hash, "key": uuid.uuid4().hex}
    refused = await office.post(path + "/decide", {**form, "on_behalf_of": "bert", "confirmed": "yes"}, "kim", MANAGER)
    assert (refused.status_code, "does not stand in for bert" in refused.text) == (403, True)
    asked = await office.post(path + "/decide", {**form, "on_behalf_of": "maria"}, "kim", MANAGER)
    assert asked.status_code == 200
    assert "<dt>On behalf of</dt>" in asked.text
    sent = {**form, "on_behalf_of": "maria", "confirmed": "yes"}
    assert (await office.post(path + "/decide", sent, "kim", MANAGER)).status_code == 303
    found = await office.engine.task(task.id, tenant="main")
    assert found is not None
    assert [(cast["by"], cast["on_behalf_of"]) for cast in found.votes] == [("kim", "maria")]


@pytest.mark.parametrize(("amount", "asked"), [("1999999.99", False), ("2000000", True)])
async def test_a_definition_asks_for_a_second_look(office: OfficeProduct, amount: str, asked: bool) -> None:
    """From its amount on, also for a no, which nothing else would ask about; the page says so beforehand."""
    task = await task_of(office, await office.begin(requester="rita", amount=amount))
    path = f"/office/tasks/{task.id}"
    assert ("asked to check and confirm" in (await office.get(path, "kim", MANAGER)).text) is asked
    form = {"outcome": "reject", "reason": "no", "seen": task.subject_hash, "key": uuid.uuid4().hex}
    first = await office.post(path + "/decide", form, "kim", MANAGER)
    assert (first.status_code, "Check and confirm" in first.text) == ((200, True) if asked else (303, False))
    if asked:
        assert (await office.post(path + "/decide", {**form, "confirmed": "yes"}, "kim", MANAGER)).status_code == 303


@pytest.mark.parametrize(
    "name", ["x" * 201, "s\x1b[31mven", "sven\u202e", "sven\nkim"], ids=["long", "ansi", "turned", "line"]
)
async def test_people_are_named_on_pages_as_bodies_name_them(office: OfficeProduct, name: str) -> None:
    """What stands in records is read in terminals, too, and by whoever is asked to believe it."""
    task = await task_of(office, await office.begin(requester="rita"))
    before = len(await office.engine.records(task.saga_id, Actor("test")))
    until = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M")
    for path, form in (
        (f"/office/tasks/{task.id}/delegate", {"to": name}),
        (f"/office/tasks/{task.id}/delegate", {"to": "sven", "reason": "r" * 2_001}),
        (f"/office/tasks/{task.id}/release", {"reason": "r" * 2_001}),
        (f"/office/tasks/{task.id}/reassign", {"to": name, "reason": "r"}),
        (f"/office/tasks/{task.id}/reassign", {"to": f"role:{name}", "reason": "r"}),
        ("/office/profile/absence", {"substitute": name, "until": until}),
    ):
        answer = await office.post(path, form, "zita", f"{MANAGER},operator")
        assert answer.status_code == 422, (path, form)
    assert len(await office.engine.records(task.saga_id, Actor("test"))) == before


@pytest.mark.parametrize("capacity", ["viewer", "operator", "auditor", "service"])
async def test_who_may_not_decide_lends_nobody_the_right(office: OfficeProduct, capacity: str) -> None:
    """They may be in the group that a task is asked of, and still not decide: then nobody can in their name."""
    saga_id = await office.begin(requester="rita")
    task = await task_of(office, saga_id)
    until = (datetime.now(UTC) + timedelta(days=2)).strftime("%Y-%m-%dT%H:%M")
    who = f"watcher-{capacity}"
    form = {"substitute": f"sub-{capacity}", "until": until}
    assert (await office.post("/office/profile/absence", form, who, f"manager,{capacity}")).status_code == 403
    with pytest.raises(RefusedError, match="may not"):
        await office.engine.desk.substitute(
            Actor(who, ("manager",), "oidc", capacities=frozenset({capacity})), f"sub-{capacity}",
            until=datetime.now(UTC) + timedelta(days=2),
        )  # fmt: skip
    answer = {
        "outcome": "approve",
        "reason": "",
        "seen": task.subject_hash,
        "key": uuid.uuid4().hex,
        "confirmed": "yes",
    }
    await office.post(f"/office/tasks/{task.id}/decide", answer, f"sub-{capacity}", "approver")
    assert (await office.engine.tasks(saga_id=saga_id, tenant="main"))[0].votes == ()
    assert "Arrange" not in (await office.get("/office/profile", who, f"manager,{capacity}")).text


async def test_one_who_supervises_asks_somebody_else(office: OfficeProduct) -> None:
    """With a reason; the new person finds it under For me, and the supervisor may not decide it."""
    task = await task_of(office, await office.begin(requester="rita"))
    form = {"to": "nils", "reason": "maria is away"}
    for who, there in (("olga", True), ("rita", False)):  # rita asked for it: she does not choose who decides either
        page = await office.get(f"/office/tasks/{task.id}", who, "operator,approver,manager")
        assert ("Ask somebody else" in page.text) is there, who
    done = await office.post(f"/office/tasks/{task.id}/reassign", form, "olga", "operator,approver,manager")
    assert done.status_code == 303, done.text[:300]
    assert task.business_key in rows((await office.get("/office/inbox?tab=me", "nils", "approver")).text)
    page = await office.get(f"/office/tasks/{task.id}", "olga", "operator,approver,manager")
    assert "You cannot decide this" in page.text
    refused = await office.post(f"/office/tasks/{task.id}/reassign", form, "maria", MANAGER)
    assert refused.status_code == 403


async def test_comments_keep_their_history_and_links_are_safe(office: OfficeProduct) -> None:
    """Edited words stay readable; a link that is none is refused and says so on the page."""
    task = await task_of(office, await office.begin(requester="rita"))
    base = f"/office/tasks/{task.id}"
    await office.post(base + "/comment", {"text": "first <b>words</b>"}, "maria", MANAGER)
    text = (await office.get(base, "maria", MANAGER)).text
    (number,) = re.findall(r'name="replaces" value="(\d+)"', text)
    await office.post(base + "/comment", {"text": "other words", "replaces": number}, "maria", MANAGER)
    text = (await office.get(base, "maria", MANAGER)).text
    assert "first &lt;b&gt;words" in text
    assert "<b>words" not in text
    for url in ("javascript:alert(1)", "http://plain.example/", "https://user:pass@x.example/"):
        refused = await office.post(base + "/attach", {"title": "x", "url": url}, "maria", MANAGER)
        assert refused.status_code == 422, url
        assert unescape(url) not in re.findall(r'href="([^"]+)"', refused.text)


async def test_problems_are_pages_for_people_and_json_for_programs(office: OfficeProduct) -> None:
    """With a reference and a way on; what somebody may not see is not there, in the same words."""
    task = await task_of(office, await office.begin(requester="rita"))
    headers = {"X-Actor": "eve", "X-Actor-Roles": "approver"}
    hidden = await office.client.get(f"/office/tasks/{task.id}", headers={**headers, **HTML})
    missing = await office.client.get("/office/tasks/nothing:here", headers={**headers, **HTML})
    assert (hidden.status_code, missing.status_code) == (404, 404)
    assert hidden.headers["content-type"].startswith("text/html")
    for answer in (hidden, missing):
        assert "What you can do." in answer.text
        assert "Reference" in answer.text
    program = await office.client.get(f"/office/tasks/{task.id}", headers=headers)
    assert program.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"{}", 415),
        ("text/plain", b"outcome=approve", 415),
        ("multipart/form-data; boundary=x", FILE, 400),
        ("application/x-www-form-urlencoded", b"&".join(b"f%d=1" % n for n in range(2_000)), 400),
        ("application/x-www-form-urlencoded", b"outcome=a%00b", 400),
    ],
    ids=["json", "text", "file", "many fields", "nul"],
)  # fmt: skip
async def test_forms_that_are_none_are_refused(
    office: OfficeProduct, content_type: str, body: bytes, status: int
) -> None:
    """Never an error of ours, never half read."""
    task = await task_of(office, await office.begin(requester="rita"))
    headers = {"X-Actor": "maria", "X-Actor-Roles": MANAGER, "Content-Type": content_type, "Origin": office.url}
    answer = await office.client.post(f"/office/tasks/{task.id}/decide", content=body, headers=headers)
    assert answer.status_code == status, answer.text[:300]


async def test_without_what_was_shown_nothing_is_decided(office: OfficeProduct) -> None:
    """A form without the hash, or with one that never was, records nothing."""
    saga_id = await office.begin(requester="rita")
    task = await task_of(office, saga_id)
    for seen in ("", "0" * 64):
        form = {"outcome": "reject", "reason": "x", "seen": seen, "key": "k", "confirmed": "yes"}
        answer = await office.post(f"/office/tasks/{task.id}/decide", form, "maria", MANAGER)
        assert answer.status_code in (409, 422)
    assert "task.voted" not in [record.type for record in await office.engine.records(saga_id, Actor("test"))]


async def test_a_stranger_learns_nothing_but_that_there_is_a_sign_in(office: OfficeProduct) -> None:
    """No tenant, no place, no count of records."""
    text = (await office.client.get("/office/login", headers=HTML)).text
    assert "Sign in" in text
    for word in ("Tenant", "tenant", "record ", "/office/inbox", 'name="q"', "Sign out"):
        assert word not in text, word


@pytest.mark.parametrize("capacity", ["viewer", "approver", "operator", "auditor", "admin"])
async def test_nobody_is_shown_a_way_that_ends_in_a_refusal(office: OfficeProduct, capacity: str) -> None:
    """The start, every place of the navigation, and the search box."""
    start = await office.get("/office", "pat", capacity)
    assert start.status_code == 303
    page = await office.get(start.headers["location"], "pat", capacity)
    assert page.status_code == 200, start.headers["location"]
    places = set(re.findall(r'<nav class="nav nav-row".*?</nav>', page.text, re.DOTALL)[0].split('href="')[1:])
    assert places
    for place in places:
        answer = await office.get(place.partition('"')[0], "pat", capacity)
        assert answer.status_code == 200, place
    searches = re.findall(r'<form class="find" action="([^"]+)".*?name="([^"]+)"', page.text, re.DOTALL)
    for address, field in searches:
        answer = await office.get(f"{address}?{field}=nothing-like-this", "pat", capacity)
        assert answer.status_code in (200, 303), address
        if answer.status_code == 303:
            assert (await office.get(answer.headers["location"], "pat", capacity)).status_code == 200


async def test_a_name_that_could_mislead_is_not_in_the_button() -> None:
    """The words of the final button are never turned around by what somebody was called."""
    around = {"amount": None, "outcome": "approve"}
    source = '{% import "tasks/parts.html" as parts with context %}{{ parts.act_words(outcome, amount, about) }}'
    made = templates().from_string(source)
    facts = {"shell": shell(), "fmt": Reader(), "request": None}
    assert made.render(**around, **facts, about="Kiran").strip() == "Approve: Kiran"
    assert made.render(**around, **facts, about="Kir\u202ean").strip() == "Approve"
