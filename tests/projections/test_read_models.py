"""What read models answer, over a product in which payouts of every kind have gone through."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from datetime import UTC, datetime, timedelta

import pytest

from orchestrator.api.views import Actor, task_id_of
from orchestrator.runtime.catalog import Catalog
from orchestrator.store.queries import BadCursorError
from projections.answers import AuditFilter, PendingApproval, Timeline
from projections.models import token_of
from tests.projections.conftest import Told

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def timeline(told: Told, how: str) -> Timeline:
    """The timeline of the payout that went so."""
    found = await told.models.timelines.of("main", told.sagas[how])
    assert found is not None
    return found


async def test_what_is_pending_is_shown_with_whom_and_how_its_time_stands(told: Told) -> None:
    """One task is open: the one that nobody has decided."""
    answer = await told.models.approvals.as_of("main", candidates=["role:manager"])
    (pending,) = answer.items
    assert (pending.saga_id, pending.to, pending.sla, pending.votes) == (
        told.sagas["open"],
        ("role:manager",),
        "in time",
        0,
    )
    assert pending.task_id == task_id_of(pending.saga_id, pending.activity)
    assert pending.customer == "customer-open"
    assert answer.complete.lag == 0
    assert not (await told.models.approvals.as_of("main", candidates=["role:nobody"])).items
    assert not (await told.models.approvals.as_of("elsewhere")).items


async def test_the_past_is_shown_as_it_was(told: Told) -> None:
    """A moment before the vote the decided task was pending; a moment before it opened nobody was asked."""
    saga = told.sagas["approved"]
    opened, *_, decided = (await told.models.approvals.history("main", saga, "approve")).items
    assert (opened.state, decided.state, decided.outcome) == ("open", "decided", "approve")
    before_vote = (await told.models.approvals.as_of("main", decided.since - timedelta(microseconds=1))).items
    assert saga in {task.saga_id for task in before_vote}
    after_vote = (await told.models.approvals.as_of("main", decided.since)).items
    assert saga not in {task.saga_id for task in after_vote}
    assert not (await told.models.approvals.as_of("main", opened.since - timedelta(microseconds=1))).items


async def test_as_of_agrees_with_the_history_of_every_task_at_every_change(told: Told) -> None:
    """The index by reach finds exactly the rows that stood; checked at, before and after each change of any task."""
    rows: list[PendingApproval] = []
    for saga in told.sagas.values():
        rows += (await told.models.approvals.history("main", saga, "approve")).items
    moments = {row.since + timedelta(microseconds=step) for row in rows for step in (-1, 0, 1)}
    for moment in sorted(moments):
        found = await told.models.approvals.as_of("main", moment, limit=100)
        stood = {
            r.position
            for r in rows
            if r.state == "open" and r.since <= moment and (r.until is None or r.until > moment)
        }
        assert {task.position for task in found.items} == stood


async def test_an_expired_and_a_withdrawn_task_end_as_what_they_are(told: Told) -> None:
    """How it ended is the last row of its history."""
    last = (await told.models.approvals.history("main", told.sagas["expired"], "approve")).items[-1]
    assert (last.state, last.change) == ("expired", "task.expired")


async def test_decisions_keep_their_evidence(told: Told) -> None:
    """Who, as what, how known, seeing what, why, and whether it settled the task; newest first, page by page."""
    first = await told.models.approvals.decided_by("main", "maria", limit=2)
    second = await told.models.approvals.decided_by("main", "maria", limit=2, cursor=first.next)
    votes = [*first.items, *second.items]
    assert [vote.saga_id for vote in votes] == [told.sagas[how] for how in ("by hand", "rejected", "approved")]
    assert all(
        vote.decided and vote.counted and vote.reason == "seen" and len(vote.subject_hash) == 64 for vote in votes
    )
    assert votes[0].roles == ("approver", "manager")
    assert not (await told.models.approvals.decided_by("main", "ravi")).items


async def test_the_audit_trail_has_every_record_and_finds_it_by_what_is_known_of_it(told: Told) -> None:
    """As many rows as records; each search gives exactly the records that fit."""
    saga = told.sagas["rejected"]
    stream = await told.engine.records(saga, Actor("test"))
    everything = await told.models.audit.search("main", AuditFilter(saga=saga), count=True, limit=500)
    assert [entry.record for entry in everything.items] == [record.version for record in reversed(stream)]
    assert [entry.hash for entry in everything.items] == [record.hash for record in reversed(stream)]
    assert everything.count is not None
    assert (everything.count.value, everything.count.exact) == (len(stream), True)
    for wanted, expected in (
        (AuditFilter(saga=saga, action="task."), {"task.opened", "task.voted", "task.decided"}),
        (AuditFilter(saga=saga, action="task.voted"), {"task.voted"}),
        (AuditFilter(customer="customer-rejected", outcome="reject"), {"task.voted", "task.decided"}),
        (AuditFilter(actor="person:maria", saga=saga, action="compensation."), {"compensation.started"}),
        (AuditFilter(saga=saga, action="nothing."), set()),
        (AuditFilter(saga=saga, name="payout", until=stream[0].recorded_at), set()),
    ):
        answer = await told.models.audit.search("main", wanted, count=True)
        assert {entry.type for entry in answer.items} == expected, wanted
        assert answer.count is not None
        assert answer.count.value == len(answer.items)
    assert not (await told.models.audit.search("elsewhere", AuditFilter(saga=saga))).items


async def test_pages_of_the_audit_trail_stay_as_they_were_while_records_come_in(told: Told) -> None:
    """The cursor keeps what the first page could see: later records neither shift nor join the list."""
    first = await told.models.audit.search("main", limit=10)
    await told.start(requester="customer-late")
    await told.caught_up()
    seen, cursor = list(first.items), first.next
    while cursor:
        page = await told.models.audit.search("main", limit=10, cursor=cursor)
        seen += page.items
        cursor = page.next
    assert sorted(entry.position for entry in seen) == list(range(1, first.complete.position + 1))
    places = [(entry.at, entry.position) for entry in seen]
    assert places == sorted(places, reverse=True)
    with pytest.raises(BadCursorError):
        await told.models.audit.search("main", cursor="bm90aGluZw")


async def test_as_of_leaves_out_what_was_written_later(told: Told) -> None:
    """An auditor asks for the trail as it stood at an instant."""
    stream = await told.engine.records(told.sagas["approved"], Actor("test"))
    moment = stream[2].recorded_at
    answer = await told.models.audit.search("main", AuditFilter(saga=told.sagas["approved"]), as_of=moment)
    assert answer.items
    assert all(entry.at <= moment for entry in answer.items)
    assert answer.as_of == moment


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
async def test_an_export_says_what_it_holds(told: Told, format_: str) -> None:
    """Every record once, a manifest at the end whose checksum and count are those of the bytes before it."""
    wanted = AuditFilter(name="payout")
    data = b"".join([part async for part in told.models.audit.export("main", wanted, format_=format_)])  # type: ignore[arg-type]
    lines = data.decode().splitlines(keepends=True)
    if format_ == "csv":
        *rows, last = csv.reader(io.StringIO(data.decode(), newline=""))
        manifest, positions = json.loads(last[1]), [int(row[0]) for row in rows[1:]]
        assert rows[0][0] == "position"
    else:
        manifest = json.loads(lines[-1])["manifest"]
        positions = [json.loads(line)["position"] for line in lines[:-1]]
    assert sorted(positions) == list(range(1, manifest["complete_up_to"] + 1))
    assert len(positions) == manifest["rows"]
    body = "".join(lines[:-1]).encode()
    assert manifest["sha256"] == hashlib.sha256(body).hexdigest()
    assert manifest["filter"] == {"name": "payout"}


async def test_where_a_saga_stands_is_said_with_what_remains(told: Told) -> None:
    """The open payout stands at its task, has the reservation behind it and the payment before it."""
    found = await timeline(told, "open")
    assert [(place.node, place.kind, place.sla) for place in found.places] == [("approve", "task", "in time")]
    assert [(passed.node, passed.outcome) for passed in found.passed] == [("reserve", "succeeded")]
    assert [node.node for node in found.remaining] == ["pay"]
    assert found.earliest is not None
    assert found.latest is not None
    assert found.places[0].due is not None
    assert found.earliest < found.places[0].due <= found.latest
    assert found.sla == "in time"


async def test_an_ended_saga_has_its_way_back_behind_it(told: Told) -> None:
    """The rejected payout: reserved, rejected, given back."""
    found = await timeline(told, "rejected")
    assert [(p.node, p.kind, p.outcome) for p in found.passed] == [
        ("reserve", "step", "succeeded"), ("approve", "task", "reject"), ("reserve", "undo", "done"),
    ]  # fmt: skip
    assert (found.phase, found.places, found.remaining, found.latest) == ("compensated", (), (), None)


async def test_stuck_sagas_are_found_where_they_are_stuck(told: Told) -> None:
    """A function that raises, an undo that is refused: both stand somewhere."""
    stuck = await told.models.timelines.search("main", stuck=True)
    assert {saga.saga_id: (saga.place, saga.place_kind) for saga in stuck.items} == {
        told.sagas["stuck"]: ("rules", "stuck"),
        told.sagas["by hand"]: ("reserve", "stuck"),
    }
    crowds = {(b.node, b.kind): b.waiting for b in (await told.models.timelines.bottlenecks("main")).items}
    assert crowds["rules", "stuck"] == crowds["reserve", "stuck"] == 1


async def test_sagas_are_found_by_what_people_know_of_them(told: Told) -> None:
    """Phase, outcome, customer, key, place, version: each gives exactly the sagas that fit."""
    search = told.models.timelines.search
    assert {s.saga_id for s in (await search("main", phase="completed")).items} == {told.sagas["approved"]}
    assert {s.saga_id for s in (await search("main", outcome="refused")).items} == {told.sagas["refused"]}
    assert {s.saga_id for s in (await search("main", customer="customer-expired")).items} == {told.sagas["expired"]}
    assert {s.saga_id for s in (await search("main", business_key="waits")).items} == {told.sagas["waits"]}
    assert {s.saga_id for s in (await search("main", name="payout", place="waits/payout_noted")).items} == {
        told.sagas["waits"]
    }
    assert not (await search("main", version=2)).items
    assert not (await search("main", until=datetime(2020, 1, 1, tzinfo=UTC))).items
    seen, cursor = [], ""
    while True:
        page = await search("main", limit=3, cursor=cursor)
        seen += [saga.saga_id for saga in page.items]
        cursor = page.next
        if not cursor:
            break
    assert len(seen) == len(set(seen))
    assert set(told.sagas.values()) <= set(seen)


async def test_what_is_due_next_comes_first(told: Told) -> None:
    """Two payouts have something due: the open task and the wait."""
    due = await told.models.timelines.risky("main")
    dues = [saga.due for saga in due.items]
    assert None not in dues, "what has ended has nothing due"
    assert dues == sorted(due for due in dues if due is not None)
    assert {told.sagas["open"], told.sagas["waits"]} <= {saga.saga_id for saga in due.items}


async def test_a_customer_sees_what_is_exposed_of_their_own_saga_and_nothing_else(told: Told) -> None:
    """Words and fields of the view; the same None for somebody else's saga as for one that is not there."""
    progress = told.models.customers.progress
    found = await progress("main", "waits", "customer-waits")
    assert found is not None
    assert (found.title, found.state, dict(found.facts)) == ("Your payout", "In progress", {"Amount": "60"})
    assert [(step.text, step.state) for step in found.steps] == [
        ("Money set aside", "done"), ("A colleague looks at it", "later"), ("Paid", "later"),
    ]  # fmt: skip
    assert await progress("main", "waits", "customer-open") is None
    assert await progress("main", "no such key", "customer-waits") is None
    assert await progress("elsewhere", "waits", "customer-waits") is None


async def test_a_customer_is_told_of_an_end_in_plain_words(told: Told) -> None:
    """A payout that was taken back: the step is undone, what never came is not promised any more."""
    key = (await timeline(told, "rejected")).business_key
    found = await told.models.customers.progress("main", key)
    assert found is not None
    assert found.state == "We could not pay this"
    assert [(step.text, step.state) for step in found.steps] == [
        ("Money set aside", "undone"), ("A colleague looks at it", "done"),
    ]  # fmt: skip


async def test_service_levels_are_quotients_of_what_happened(told: Told) -> None:
    """Four payouts ended, one of them paid; four tasks were closed, one by its time; both undos went by themselves."""
    tiles = await told.models.levels.tiles("main", window=timedelta(days=1))
    found = {level.key: (level.part, level.whole) for level in tiles.levels}
    assert found["completed"] == (1, 4)
    assert found["success"] == (4, 4)
    assert found["adherence"] == (3, 4)
    assert found["escalation"] == (0, 4)
    assert found["compensation"] == (2, 2)
    assert found["audit"][0] == found["audit"][1] > 0
    mean = next(level for level in tiles.levels if level.key == "mean")
    took = await timeline(told, "approved")
    assert took.ended_at is not None
    assert mean.value == pytest.approx((took.ended_at - took.started_at).total_seconds(), abs=0.002)
    p95 = next(level for level in tiles.levels if level.key == "p95")
    assert p95.value == pytest.approx(mean.value, rel=0.06)
    assert {
        level.key: (level.part, level.whole) for level in (await told.models.levels.tiles("main", name="none")).levels
    }["completed"] == (0, 0)


async def test_a_trend_adds_up_to_its_window(told: Told) -> None:
    """Points are of one width, oldest first; a point without figures says so."""
    series = await told.models.levels.series("main", "completed", window=timedelta(days=10), points=10)
    assert sum(point.level.whole for point in series.points) == 4
    assert series.points[0].level.value is None
    assert all(
        (later.at - point.at).total_seconds() == series.bucket_seconds
        for point, later in zip(series.points, series.points[1:], strict=False)
    )
    with pytest.raises(KeyError):
        await told.models.levels.series("main", "nonsense")


async def test_a_page_after_an_act_waits_for_what_it_wrote(told: Told) -> None:
    """The token of a vote's answer: when it is reached, the read model shows the vote."""
    saga = await told.start(requester="customer-token")
    record = await told.vote(saga, "approve", actor="tom")
    assert await told.models.wait_for(token_of(saga, record), projections=["approvals"], seconds_max=20)
    assert [vote.saga_id for vote in (await told.models.approvals.decided_by("main", "tom")).items] == [saga]
    assert not await told.models.wait_for(token_of(saga, record + 1_000), seconds_max=0.05)
    assert not await told.models.wait_for(token_of(saga, 1), tenant="elsewhere", seconds_max=0.05)
    with pytest.raises(ValueError, match="write <saga id>@<record>"):
        await told.models.wait_for("yesterday")
    assert await told.models.wait_for("0", seconds_max=0), "what an empty store says of itself"


async def test_every_customer_view_of_the_product_names_what_is_there() -> None:
    """A field that the start message has not got, a step that the flow has not got, would say nothing for ever."""
    catalog = Catalog.load(["sagas"])
    assert {"transfer", "order-fulfilment"} <= set(catalog.views)
    for name, view in catalog.views.items():
        graph = catalog.newest[name].graph
        names = {node.path.rpartition("/")[2] for node in graph.nodes.values()}
        assert set(view.steps) <= names, name
        starts = [catalog.registry.get(wire) for wire in graph.starts_on]
        for start in starts:
            assert {view.customer, *view.fields} <= set(start.model_fields), name
