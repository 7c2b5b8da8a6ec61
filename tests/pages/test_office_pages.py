"""Every page of operators and auditors, for a saga in every state: what it says, and what its forms do."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from orchestrator.api.views import Actor
from orchestrator.pages.saga_page import TABS
from orchestrator.runtime.identity import trace_id_of
from orchestrator.store.chain import Flaw
from tests.pages.office import ADA, OfficeProduct
from tests.pages.wires_saga import REPAIRED, WireRequested

pytestmark = pytest.mark.asyncio(loop_scope="module")

STATES = {
    "waiting": "waiting for a person: approve",
    "event": "waiting for an event",
    "stuck": "stuck after hold",
    "unknown": "stuck at send",
    "undo": "stuck at hold",
    "completed": "completed",
    "compensated": "undone",
}
PAGES = [
    "/office/sagas", "/office/sagas?state=due", "/office/sagas?customer=CUST00012",
    "/office/sagas?q=nothing-has-this-key", "/office/sagas?state=stuck", "/office/operations",
    "/office/operations?tab=undo", "/office/operations?tab=letters", "/office/operations?tab=early", "/office/audit",
    "/office/audit?key=waiting-1&action=task.", "/office/audit?since=2099-01-01T00:00:00", "/office/audit/pending",
    "/office/audit/verify", "/office/audit/verify?run=recent",
    "/office/audit/pending?as_of=2001-01-01T00:00:00", "/office/levels", "/office/levels?window=1d&name=wire",
    "/office/levels/success", "/office/definitions", "/office/definitions/wire/1", "/office/system",
    "/office/definitions/wire/diff?from=1&to=1",
]  # fmt: skip


def text(page: str) -> str:
    """What a page says, without markup."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))


@pytest.mark.parametrize("tab", TABS)
@pytest.mark.parametrize("state", STATES)
async def test_every_tab_of_a_saga_in_every_state(office: OfficeProduct, state: str, tab: str) -> None:
    """It says the state in words, and holds no inline style or script."""
    answer = await office.get(f"/office/sagas/{office.sagas[state]}?tab={tab}")
    assert answer.status_code == 200, answer.text
    assert STATES[state] in text(answer.text)
    assert not re.search(r"\sstyle=|\son[a-z]+=|<script(?! src=)", answer.text)


@pytest.mark.parametrize("path", PAGES)
async def test_every_other_page(office: OfficeProduct, path: str) -> None:
    """Also where there is nothing to show."""
    answer = await office.get(path)
    assert answer.status_code == 200, answer.text
    assert not re.search(r"\sstyle=|\son[a-z]+=|<script(?! src=)", answer.text)


@pytest.mark.parametrize(
    "path",
    [
        "/office/sagas?cursor=x", "/office/sagas?state=due&cursor=x", "/office/audit?cursor=x",
        "/office/audit/pending?cursor=x", "/office/operations?tab=letters&cursor=x",
        "/office/operations?tab=early&cursor=x",
    ],
)  # fmt: skip
async def test_an_address_with_a_place_that_is_not_there_is_a_bad_request(office: OfficeProduct, path: str) -> None:
    """Never a bug of ours."""
    assert (await office.get(path)).status_code == 400


async def test_sagas_are_listed_by_customer_and_by_what_is_due_next(office: OfficeProduct) -> None:
    """The read model knows both, and the list says how far it is complete."""
    saga_id = office.sagas["waiting"]
    assert await office.engine.models.wait_for(f"{saga_id}@7", seconds_max=20)
    by_customer = await office.get("/office/sagas?customer=CUST00012")
    assert saga_id in by_customer.text
    assert "Complete up to record" in by_customer.text
    assert saga_id not in (await office.get("/office/sagas?customer=CUST99999")).text
    due = await office.get("/office/sagas?state=due")
    assert saga_id in due.text
    assert "left" in text(due.text)
    assert office.sagas["completed"] not in due.text


async def test_new_sagas_wait_for_the_reader(office: OfficeProduct) -> None:
    """A list never moves by itself: it says how many are new."""
    opened = datetime.now(UTC).isoformat().replace("+", "%2B")
    before = await office.get(f"/office/sagas/fresh?since={opened}")
    assert "new · show" not in before.text
    await office.begin("auto", key="fresh-1")
    assert "1 new · show" in text((await office.get(f"/office/sagas/fresh?since={opened}")).text)


async def test_a_saga_is_found_by_what_somebody_has_in_hand(office: OfficeProduct) -> None:
    """Its id, its business key; anything else ends at the list, which says that nothing matches."""
    saga_id = office.sagas["waiting"]
    for wanted in (saga_id, "waiting-1"):
        answer = await office.get(f"/office/find?q={wanted}")
        assert (answer.status_code, answer.headers["location"]) == (303, f"/office/sagas/{saga_id}")
    answer = await office.get("/office/find?q=no-such-thing")
    assert "No saga matches" in (await office.get(answer.headers["location"])).text


async def test_ids_from_elsewhere_open_what_they_belong_to(office: OfficeProduct) -> None:
    """A message of ours, an answer to it, a trace however it is written, the event that began a saga."""
    saga_id = office.sagas["completed"]
    records = await office.engine.records(saga_id, ADA)
    reply = next(one for one in records if one.type == "step.succeeded")
    trace = trace_id_of(records[0].traceparent, saga_id)
    upstream = {"wire_id": "found-1", "customer_id": "C", "requester": "ravi", "amount": "1", "mood": "wait"}
    await office.engine.emit(WireRequested(**upstream), ADA, event_id="up/event?1")  # type: ignore[arg-type]
    await office.until_page("/office/sagas?q=found-1", lambda page: "1 sagas on this page" in text(page))
    found = (await office.engine.saga("found-1", ADA)).saga_id
    wanted = {
        f"{saga_id}/2": f"/office/sagas/{saga_id}/messages/2",
        reply.causation_id: f"/office/sagas/{saga_id}/messages/{reply.version}",
        f"{saga_id}/4": f"/office/sagas/{saga_id}?tab=audit#record-4",
        f"{saga_id}/99999": f"/office/sagas/{saga_id}?tab=messages",
        trace.upper(): f"/office/sagas/{saga_id}",
        f"00-{trace}-00f067aa0ba902b7-01": f"/office/sagas/{saga_id}",
        "up/event?1": f"/office/sagas/{found}",
        "f" * 32: "/office/sagas?q=" + "f" * 32,
        "nobody/1": "/office/sagas?q=nobody%2F1",
    }
    for one, where in wanted.items():
        answer = await office.client.get("/office/find", params={"q": one}, headers={"X-Actor": "ada"})
        assert (answer.status_code, answer.headers["location"]) == (303, where), one


async def test_a_trace_of_several_sagas_ends_at_their_list(office: OfficeProduct) -> None:
    """All of them, and nothing else."""
    trace = "5bd66ef5095369c7b0d1f8f4bd33716a"
    hop = f"00-{trace}-00f067aa0ba902b7-01"
    for key in ("traced-1", "traced-2"):
        body = {"wire_id": key, "customer_id": "C", "requester": "ravi", "amount": "1", "mood": "auto"}
        await office.engine.start("wire", body, ADA, traceparent=hop)
    answer = await office.get(f"/office/find?q={trace}")
    assert answer.headers["location"] == f"/office/sagas?trace={trace}"
    page = text((await office.get(answer.headers["location"])).text)
    assert "traced-1" in page
    assert "traced-2" in page
    assert "2 sagas on this page" in page


async def test_a_look_back_shows_the_saga_as_it_was_and_offers_no_act(office: OfficeProduct) -> None:
    """Nobody acts on the past."""
    answer = await office.get(f"/office/sagas/{office.sagas['stuck']}?record=2")
    assert "As it was at record 2" in text(answer.text)
    assert "/act/" not in answer.text


async def test_the_part_that_follows_the_saga_is_the_part_of_the_page(office: OfficeProduct) -> None:
    """What a hint fetches again is exactly what stands in the page."""
    saga_id = office.sagas["event"]
    whole = (await office.get(f"/office/sagas/{saga_id}")).text
    part = (await office.get(f"/office/sagas/{saga_id}/live?tab=graph")).text
    assert 'id="saga-live"' in part
    assert re.sub(r"for [\d.]+ [a-z]+", "", text(part)).strip()[:200] in re.sub(r"for [\d.]+ [a-z]+", "", text(whole))


async def test_an_operator_un_sticks_a_saga(office: OfficeProduct) -> None:
    """The page of the act says what follows; a retry after the repair moves the saga, with reason and name."""
    saga_id = await office.begin("bug", key="unstick-1")
    page = await office.get(f"/office/sagas/{saga_id}")
    assert "no rules for this country today" in page.text
    path = f"/office/sagas/{saga_id}/act/retry?place=-hold"
    shown = await office.get(path)
    assert "calls the code of rules again" in text(shown.text)
    refused = await office.form(path, reason=" ")
    assert (refused.status_code, "Say why" in refused.text) == (422, True)
    REPAIRED.add("unstick-1")
    answer = await office.form(path, reason="the rules are installed")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/office/sagas/{saga_id}?said=retried")
    saga = await office.until(saga_id, lambda saga: not saga.stuck)
    assert saga.waiting_for.endswith("approve")
    (record,) = [one for one in await office.engine.records(saga_id, Actor("test")) if one.type == "operator.retried"]
    assert (record.data["by"], record.data["reason"]) == ("ada", "the rules are installed")


async def test_a_page_that_somebody_was_quicker_on_says_so(office: OfficeProduct) -> None:
    """409, what was typed is kept, and the way back to the saga."""
    saga_id = await office.begin("bug", key="quicker-1")
    stale = {"place": "-hold", "version": "4", "reason": "mine", "key": "stale-1"}
    REPAIRED.add("quicker-1")
    await office.form(f"/office/sagas/{saga_id}/act/retry?place=-hold", actor="eve", reason="theirs")
    answer = await office.post(f"/office/sagas/{saga_id}/act/retry", stale)
    assert answer.status_code in (409, 422)
    assert "is not stuck" in text(answer.text)


async def test_a_double_click_is_one_record(office: OfficeProduct) -> None:
    """The form carries its key."""
    saga_id = await office.begin("bug", key="double-1")
    form = {"place": "-hold", "version": "4", "reason": "twice", "key": "double-click"}
    records = [one.version for one in await office.engine.records(saga_id, Actor("test")) if one.type == "saga.stuck"]
    form["version"] = str(records[-1])
    first = await office.post(f"/office/sagas/{saga_id}/act/retry", form)
    await office.until(saga_id, lambda saga: saga.stuck)
    again = await office.post(f"/office/sagas/{saga_id}/act/retry", form)
    assert (first.status_code, again.status_code) == (303, 303)
    assert (
        len([one for one in await office.engine.records(saga_id, Actor("test")) if one.type == "operator.retried"]) == 1
    )


async def test_an_unknown_outcome_takes_the_evidence_of_two(office: OfficeProduct) -> None:
    """The first proposes, may not confirm, and the second settles it; then the saga goes on."""
    saga_id = await office.begin("lost", key="two-1")
    path = f"/office/sagas/{saga_id}/act/settle?place=%3Fsend"
    assert "Takes two people" in (await office.get(path)).text
    missing = await office.form(path, reason="the bank's statement")
    assert (missing.status_code, "Say what the evidence shows" in missing.text) == (422, True)
    evidence = {"reason": "the bank's statement", "outcome": "done", "data": '{"reference": "B-1"}'}
    first = await office.form(path, actor="ada", **evidence)
    assert first.headers["location"].endswith("said=proposed")
    page = await office.get(f"/office/sagas/{saga_id}")
    assert "Waiting for a second person" in page.text
    own = await office.form(path, actor="ada", reason="again")
    assert (own.status_code, "another person must confirm" in own.text) == (403, True)
    shown = await office.get(path, actor="eve")
    assert "B-1" in shown.text
    second = await office.form(path, actor="eve", reason="I saw it too")
    assert second.headers["location"].endswith("said=acted")
    await office.until(saga_id, lambda saga: saga.phase == "completed")


async def test_an_act_that_cannot_be_taken_back_waits_for_a_second_person(office: OfficeProduct) -> None:
    """Skipping an undo is proposed by one and confirmed by another; both names stay."""
    saga_id = await office.begin("no-undo", key="skip-1")
    await office.decide(saga_id, "reject")
    await office.until(saga_id, lambda saga: saga.stuck)
    await office.form(f"/office/sagas/{saga_id}/act/take_over?place=~hold", reason="I do it by hand")
    path = f"/office/sagas/{saga_id}/act/skip?place=~hold"
    shown = await office.until_page(path, lambda page: "Nothing to do here" not in page)
    assert "STAYS" in shown
    first = await office.form(path, reason="the hold is gone already")
    assert first.headers["location"].endswith("said=proposed")
    await office.form(path, actor="eve", reason="so it is")
    await office.until(saga_id, lambda saga: saga.phase == "compensated")
    (record,) = [one for one in await office.engine.records(saga_id, Actor("test")) if one.type == "operator.skipped"]
    assert sorted(record.data["people"]) == ["ada", "eve"]


async def test_a_cancel_shows_what_it_undoes_before_it_does(office: OfficeProduct) -> None:
    """The plan stands beside the button, and the button counts it."""
    saga_id = await office.begin("", key="cancel-1")
    path = f"/office/sagas/{saga_id}/act/cancel"
    shown = text((await office.get(path)).text)
    assert "Cancel cancel-1 and undo 1 step" in shown
    assert "free: wires.Free to wires-desk" in shown
    assert (await office.form(path, reason="the customer asked")).status_code == 303
    await office.until(saga_id, lambda saga: saga.phase == "compensated")
    assert "not going forward any more" in (await office.get(path)).text


async def test_a_dead_letter_is_shown_safely_and_driven_again(office: OfficeProduct) -> None:
    """Still wrong: it says so and stays. Bytes that are no text are shown as bytes."""
    letter_id = await office.poison(b'{"wire_id": "<script>alert(1)</script>"')
    path = f"/office/operations/letters/{letter_id}"
    shown = await office.get(path)
    assert "<script>alert" not in shown.text
    assert "&lt;script&gt;" in shown.text
    again = await office.form(path, reason="perhaps now")
    assert (again.status_code, "It stays here" in again.text) == (409, True)
    binary = await office.poison(b"\xff\x00\x01")
    assert "ff 00 01" in (await office.get(f"/office/operations/letters/{binary}")).text


async def test_an_auditor_sees_what_was_shown_and_that_its_hash_matches(office: OfficeProduct) -> None:
    """The record of a vote renders the subject again, computes its hash anew, and names role and authentication."""
    records = await office.engine.records(office.sagas["compensated"], Actor("test"))
    vote = next(record for record in records if record.type == "task.voted")
    page = text((await office.get(f"/office/audit/records/{vote.saga_id}/{vote.version}", roles="auditor")).text)
    assert "This is what maria decided on" in page
    assert "CUST00012" in page
    assert vote.data["vote"]["hash"] in page


async def test_a_broken_chain_is_seen_and_the_records_stay_readable(
    office: OfficeProduct, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The part fails alone."""

    async def broken(*_: Any) -> Flaw:
        return Flaw("s", 3, "its hash is not that of its body")

    monkeypatch.setattr("orchestrator.pages.reading.Office.verify", broken)
    page = text((await office.get(f"/office/sagas/{office.sagas['waiting']}?tab=audit")).text)
    assert "This stream is not as it was written" in page
    assert "saga.started" in page


async def test_an_export_holds_the_rows_of_the_screen(office: OfficeProduct) -> None:
    """The same filter, and a manifest that says so."""
    token = f"{office.sagas['compensated']}@1"
    assert await office.engine.models.wait_for(token, seconds_max=20)
    screen = await office.get("/office/audit?key=compensated-1&action=task.", roles="auditor")
    rows = set(re.findall(r"/office/audit/records/[0-9a-f-]+/(\d+)", screen.text))
    export = await office.get("/office/audit/export?key=compensated-1&action=task.&format=jsonl", roles="auditor")
    assert export.headers["content-disposition"].startswith("attachment")
    lines = [json.loads(line) for line in export.text.splitlines()]
    assert {str(line["record"]) for line in lines if "record" in line} == rows
    assert len(lines) == len(rows) + 1


@pytest.mark.parametrize(
    ("path", "roles", "status"),
    [
        ("/office/audit", "operator", 403),
        ("/office/operations", "viewer", 403),
        ("/office/sagas", "auditor", 200),
        ("/office/system", "viewer", 403),
        ("/office/audit/export", "viewer", 403),
    ],
)
async def test_a_page_is_for_those_it_is_for(office: OfficeProduct, path: str, roles: str, status: int) -> None:
    """By capacity; the route decides, whatever the navigation shows."""
    assert (await office.get(path, roles=roles)).status_code == status


async def test_who_may_not_act_sees_no_button_and_is_refused(office: OfficeProduct) -> None:
    """An auditor looks; an operator acts."""
    saga_id = office.sagas["stuck"]
    assert "/act/" not in (await office.get(f"/office/sagas/{saga_id}", roles="auditor")).text
    form = {"place": "-hold", "version": "4", "reason": "no", "key": "k"}
    assert (await office.post(f"/office/sagas/{saga_id}/act/retry", form, roles="auditor")).status_code == 403
    assert (await office.engine.saga(saga_id, ADA)).stuck
