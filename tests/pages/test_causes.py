"""Stuck sagas by cause: whose they are, where they part from one that ran, and acts on all of them at once."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from typing import Any

import pytest

from orchestrator.api.views import Actor
from orchestrator.identity.keeping import Kept
from orchestrator.pages.bulk_work import BulkWork, verdict_of
from orchestrator.pages.comparing import compare
from orchestrator.store.bulk import Bulk, BulkItem
from tests.pages.office import ADA, SECONDS_MAX, OfficeProduct
from tests.pages.wires_saga import REPAIRED

FORM = {"csrf_token": ""}  # as every form of a page has it
OPERATOR = Actor("ada", capacities=frozenset({"operator"}))
pytestmark = pytest.mark.asyncio(loop_scope="module")


def text(page: str) -> str:
    """What a page says, without markup."""
    words = re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", page)))
    return re.sub(r" (['”:,])", r"\1", words.replace("“ ", "“"))


async def cause_of(office: OfficeProduct, saga_id: str, tab: str = "stuck") -> str:
    """The path of the page of a stuck saga's cause."""
    listed = await office.get(f"/office/operations?tab={tab}")
    line = next(row for row in listed.text.split("<tr>") if saga_id in row)
    return str(re.findall(r"/office/operations/causes/\w+", line)[0])


async def preview(office: OfficeProduct, path: str, act: str, actor: str = "ada") -> str:
    """Freezes a list; gives the path of its page."""
    answer = await office.post(f"{path}/preview", {"act": act}, actor)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"])


async def until_says(office: OfficeProduct, path: str, *words: str) -> str:
    """The page once it says all of this."""
    return text(await office.until_page(path, lambda page: all(one in text(page) for one in words)))


def row_of(page: str, saga_id: str) -> str:
    """What the list says of one saga."""
    return text(next(row for row in page.split("<tr>") if saga_id in row))


class TestOwners:
    async def test_a_cause_is_taken_taken_over_with_a_reason_and_given_back(self, office: OfficeProduct) -> None:
        """Each with who and when, and visible to everybody."""
        path = await cause_of(office, office.sagas["unknown"])
        assert "Nobody has taken it" in text((await office.get(path)).text)
        assert (await office.form(f"{path}", act="taken")).status_code in (
            404,
            405,
        )  # the page's own path takes no form
        assert (await office.post(f"{path}/owner", {"act": "taken", "seen": "0"}, "ada")).status_code == 303
        listed = (await office.get("/office/operations")).text
        assert "ada" in row_of(listed, office.sagas["unknown"])
        page = text((await office.get(path, "eve")).text)
        assert "It is ada's" in page
        refused = await office.post(f"{path}/owner", {"act": "taken", "seen": "1"}, "eve")
        assert refused.status_code == 422
        assert "say why you take it over" in text(refused.text)
        reason = {"act": "taken", "seen": "1", "reason": "ada is away"}
        assert (await office.post(f"{path}/owner", reason, "eve")).status_code == 303
        page = text((await office.get(path, "eve")).text)
        assert "eve took it over from ada: “ada is away”" in page
        assert (await office.post(f"{path}/owner", {"act": "released", "seen": "2"}, "ada")).status_code == 422
        assert (await office.post(f"{path}/owner", {"act": "released", "seen": "2"}, "eve")).status_code == 303
        assert "eve gave it back" in text((await office.get(path)).text)

    async def test_of_two_who_take_it_at_once_one_is_told(self, office: OfficeProduct) -> None:
        """Nobody believes to own what somebody else owns."""
        bulk = Bulk(office.runtime.store.pools)
        took = await asyncio.gather(*(bulk.note_cause("main", "c-1", 0, "taken", f"p{n}", "", "") for n in range(5)))
        assert sorted(took) == [False] * 4 + [True]
        path = await cause_of(office, office.sagas["unknown"])
        behind = await office.post(f"{path}/owner", {"act": "taken", "seen": "0"}, "ada")
        assert behind.status_code == 409
        assert "Somebody was quicker" in text(behind.text)


class TestComparison:
    async def test_a_stuck_saga_is_compared_with_one_that_ran(self, office: OfficeProduct) -> None:
        """The first record where they part, and what they were asked differently."""
        completed = office.sagas["completed"]
        saga = await office.engine.saga(completed, ADA)
        assert await office.engine.models.wait_for(f"{completed}@{saga.record}", seconds_max=SECONDS_MAX)
        page = text((await office.get(await cause_of(office, office.sagas["unknown"]))).text)
        assert "They part at record" in page
        assert "at send" in page
        assert re.search(r"Here step \w+", page)
        assert "There step succeeded" in page
        assert re.search(r"mood lost auto", page)
        assert "EUR 6,000.00" in page
        assert "in the last hour" in page

    async def test_what_runs_side_by_side_parts_nobody(self, office: OfficeProduct) -> None:
        """A stream equals itself, whatever the order; and an empty one parts from nothing."""
        records = list(await office.engine.records(office.sagas["completed"], ADA))
        assert compare(records, records).parting is None
        other = [records[0], *[one for one in records[1:] if one.activity != "hold"]]
        other[1:1] = [one for one in records if one.activity == "hold"]
        assert compare(records, other).parting is None
        parted = compare(records, [one for one in records if not one.activity.startswith("send")]).parting
        assert parted is not None
        assert parted.is_new
        assert parted.node == "send"


class TestBulk:
    async def test_a_retry_of_all_says_of_each_what_became_of_it(self, office: OfficeProduct) -> None:
        """One is repaired and progresses, one fails again, one moved meanwhile and is left alone."""
        good, bad, gone = [await office.begin("bug", key=f"bulk-{name}") for name in ("good", "bad", "gone")]
        path = await cause_of(office, good)
        bulk = await preview(office, path, "retry")
        shown = (await office.get(bulk)).text
        assert all(saga in shown for saga in (good, bad, gone))
        assert "preview" in text(shown)
        REPAIRED.update({"bulk-good", "bulk-gone"})
        await office.form(f"/office/sagas/{gone}/act/retry?place=-hold", actor="eve", reason="mine")
        await office.until(gone, lambda saga: not saga.stuck)
        assert (await office.post(f"{bulk}/start", {"reason": " "}, "ada")).status_code == 422
        assert (await office.post(f"{bulk}/start", {"reason": "x"}, "eve")).status_code == 409  # it is ada's preview
        assert (await office.post(f"{bulk}/start", {"reason": "rules installed"}, "ada")).status_code == 303
        page = await until_says(office, bulk, "nothing left to do", "0 still waiting")
        assert "ada: started, “rules installed”" in page
        listed = (await office.get(bulk)).text
        assert "progressed" in row_of(listed, good)
        assert "failed again" in row_of(listed, bad)
        assert "refused" in row_of(listed, gone)
        assert bad in (await office.get(f"{bulk}?show=failed")).text
        assert good not in (await office.get(f"{bulk}?show=failed")).text
        (record,) = [one for one in await office.engine.records(good, ADA) if one.type == "operator.retried"]
        assert (record.actor, record.data["reason"]) == ("person:ada", "rules installed")
        assert "Retry" in text((await office.get("/office/operations/bulk")).text)

    async def test_a_skip_of_all_takes_two_people_and_both_stand_in_the_records(self, office: OfficeProduct) -> None:
        """The participant is asked to let go first; who proposed cannot confirm."""
        saga = await office.begin("no-undo", key="bulk-skip")
        await office.decide(saga, "reject")
        await office.until(saga, lambda saga: saga.stuck)
        bulk = await preview(office, await cause_of(office, saga, "undo"), "skip")
        assert "Takes two people" in text((await office.get(bulk)).text)
        assert (await office.post(f"{bulk}/start", {"reason": "x"}, "ada")).status_code == 409
        assert (await office.post(f"{bulk}/propose", {"reason": "holds are gone"}, "ada")).status_code == 303
        own = await office.post(f"{bulk}/confirm", FORM, "ada")
        assert own.status_code == 409
        assert "another person must confirm" in text(own.text)
        assert (await office.engine.saga(saga, ADA)).stuck
        assert (await office.post(f"{bulk}/confirm", FORM, "eve")).status_code == 303
        await office.until(saga, lambda saga: saga.phase == "compensated")
        (record,) = [one for one in await office.engine.records(saga, ADA) if one.type == "operator.skipped"]
        assert record.data["people"] == ["ada", "eve"]
        await until_says(office, bulk, "eve: confirmed", "nothing left to do")

    async def test_a_cancel_of_all_leaves_out_what_cannot_turn_back(self, office: OfficeProduct) -> None:
        """With the reason, before anybody acts."""
        saga = await office.begin("bug", key="bulk-cancel")
        bulk = await preview(office, await cause_of(office, saga), "cancel")
        assert (await office.post(f"{bulk}/start", {"reason": "not wanted"}, "ada")).status_code == 303
        await office.until(saga, lambda saga: saga.phase == "compensated")
        past = await preview(office, await cause_of(office, office.sagas["unknown"]), "retry")
        assert office.sagas["unknown"] in (await office.get(past)).text

    async def test_it_is_paused_resumed_and_stopped_and_survives_a_restart(
        self, office: OfficeProduct, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What another process takes up is what is stored; a stopped one is never taken up again."""
        sagas = [await office.begin("bug", key=f"bulk-stop-{n}") for n in range(2)]
        bulk = await preview(office, await cause_of(office, sagas[0]), "retry")
        monkeypatch.setattr(BulkWork, "round", _nothing)
        assert (await office.post(f"{bulk}/start", {"reason": "again"}, "ada")).status_code == 303
        assert (await office.post(f"{bulk}/pause", FORM, "eve")).status_code == 303
        assert "paused" in text((await office.get(bulk)).text)
        assert (await office.post(f"{bulk}/pause", FORM, "ada")).status_code == 409
        monkeypatch.undo()
        other = BulkWork(office.app.state.office, lambda: office.engine)  # as a process that has just started has it
        while await other.round():
            pass
        assert "to do" in row_of((await office.get(bulk)).text, sagas[0])
        assert (await office.post(f"{bulk}/resume", FORM, "eve")).status_code == 303
        await until_says(office, bulk, "nothing left to do")
        again = await preview(office, await cause_of(office, sagas[0]), "retry")
        monkeypatch.setattr(BulkWork, "round", _nothing)
        assert (await office.post(f"{again}/start", {"reason": "again"}, "ada")).status_code == 303
        assert (await office.post(f"{again}/stop", {"reason": ""}, "eve")).status_code == 422
        assert (await office.post(f"{again}/stop", {"reason": "no use"}, "eve")).status_code == 303
        monkeypatch.undo()
        while await other.round():
            pass
        page = (await office.get(again)).text
        assert "to do" in row_of(page, sagas[0])
        assert "eve: stopped, “no use”" in text(page)

    async def test_a_saga_that_breaks_its_act_holds_up_no_other(
        self, office: OfficeProduct, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is the first of the list, and comes first in every round: those behind it would wait for ever."""
        sagas = [await office.begin("bug", key=f"bulk-broken-{n}") for n in range(2)]
        bulk = await preview(office, await cause_of(office, sagas[0]), "retry")
        act, broken = BulkWork._simple, set[str]()

        async def breaks(self: BulkWork, one: Any, item: BulkItem) -> str:
            if not broken or item.saga_id in broken:
                broken.add(item.saga_id)
                raise LookupError("its stream is damaged\0")
            return await act(self, one, item)

        monkeypatch.setattr(BulkWork, "_simple", breaks)
        assert (await office.post(f"{bulk}/start", {"reason": "again"}, "ada")).status_code == 303
        await until_says(office, bulk, "nothing left to do")
        page = (await office.get(bulk)).text
        assert "its stream is damaged" in row_of(page, *broken)
        for saga in set(sagas) - broken:
            assert "to do" not in row_of(page, saga)
            assert "refused" not in row_of(page, saga)

    async def test_an_item_that_was_acted_on_before_a_crash_counts_once(self, office: OfficeProduct) -> None:
        """The process died between the saga's record and its own note of it: the same request again is the same act."""
        saga = await office.begin("bug", key="bulk-crash")
        bulk = await preview(office, await cause_of(office, saga), "retry")
        store, id_ = office.app.state.office.bulk, bulk.rpartition("/")[2]
        act = await store.act("main", id_)
        item = next(one for one in await store.items(act, 0, 100) if one.saga_id == saga)
        await office.engine.operate(
            saga, "retry", item.place, item.version, OPERATOR, "again", message_id=f"bulk/{id_}/{item.number}"
        )  # fmt: skip
        assert (await office.post(f"{bulk}/start", {"reason": "again"}, "ada")).status_code == 303
        await until_says(office, bulk, "nothing left to do", "0 still waiting")
        assert "failed again" in row_of((await office.get(bulk)).text, saga)
        records = [one for one in await office.engine.records(saga, ADA) if one.type == "operator.retried"]
        assert len(records) == 1

    async def test_people_who_were_barred_since_act_on_nothing(self, office: OfficeProduct) -> None:
        """What they had begun is stopped."""
        saga = await office.begin("bug", key="bulk-barred")
        bulk = await preview(office, await cause_of(office, saga), "retry", "mallory")
        keeping = Kept(office.runtime.store.pools)
        await keeping.bar("main", "mallory", reason="left the bank", by="root")
        await office.app.state.office.bulk.move(
            await office.app.state.office.bulk.act("main", bulk.rpartition("/")[2]),
            "running", "started", "mallory", seen=["draft"], reason="x", keep_reason=True,
        )  # fmt: skip
        await until_says(office, bulk, "stopped", "who asked was barred")
        assert not [one for one in await office.engine.records(saga, ADA) if one.type == "operator.retried"]

    async def test_only_operators_act_and_nobody_sees_another_tenants(self, office: OfficeProduct) -> None:
        """Auditors look, viewers do not; an id of elsewhere is not there."""
        saga = await office.begin("bug", key="bulk-rights")
        path = await cause_of(office, saga)
        bulk = await preview(office, path, "retry")
        assert (await office.get(bulk, roles="auditor")).status_code == 200
        assert (await office.get(bulk, roles="viewer")).status_code == 403
        assert (await office.post(f"{bulk}/start", {"reason": "x"}, "ada", "auditor")).status_code == 403
        assert (await office.post(f"{path}/owner", {"act": "taken", "seen": "0"}, "ada", "auditor")).status_code == 403
        assert (await office.get("/office/operations/bulk/0123456789")).status_code == 404
        assert await Bulk(office.runtime.store.pools).act("other", bulk.rpartition("/")[2]) is None


async def test_a_saga_that_waits_for_its_participant_is_not_called_progressed(office: OfficeProduct) -> None:
    """A step that was asked again has neither progressed nor failed until it is answered."""
    reading = office.app.state.office
    state = await reading.state(ADA, office.sagas["unknown"])
    (place,) = state.stuck
    version = state.stuck[place].version
    item = BulkItem(1, office.sagas["unknown"], "k", place, version)
    assert verdict_of("retry", item, state) == "waiting"  # not tried yet: the very same record
    assert verdict_of("retry", BulkItem(1, "s", "k", place, version - 1), state) == "failed"
    assert verdict_of("cancel", item, state) == "waiting"
    done = await reading.state(ADA, office.sagas["completed"])
    assert verdict_of("retry", BulkItem(1, "s", "k", "!send", 1), done) == "progressed"


async def _nothing(_: Any) -> bool:
    return False
