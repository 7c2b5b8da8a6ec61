"""What records mean for read models: a task through everything that people do with it, a step through its attempts.

The streams are written here by hand, record by record, so that each meets the read models alone.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.messages import CustomerView
from orchestrator.store.contract import NewRecord
from orchestrator.store.postgres import PostgresStore
from projections.approvals import ApprovalsProjection
from projections.contract import FeedRecord
from projections.feed import Feed, usual_customer
from projections.journey import FoldError, JourneyFold, Span
from projections.journeys import JourneysProjection
from projections.measures import class_seconds, duration_class, levels, percentile
from projections.models import Models
from projections.reading import sla_of
from projections.rebuild import rebuild
from projections.runner import Runner
from tests.contracts.stores import append, start, written
from tests.databases import Database

SAGA = start("K-7", name="payment")
OPENED: dict[str, Any] = {
    "shown": {"amount": "7"}, "shown_type": "T", "hash": "h1", "to": [{"role": "clerk"}, {"person": "ana"}],
    "excluded": ["ravi"], "outcomes": ["approve", "reject"], "rejects": ["reject"], "votes_needed": 2,
    "expires": 2_000_000_000_000_000, "levels": [{"at": 1_900_000_000_000_000, "to": [{"role": "head"}]}],
    "due": 1_900_000_000_000_000, "at": 1_800_000_000_000_000,
}  # fmt: skip


def vote(by: str, hash_: str, outcome: str = "approve") -> dict[str, Any]:
    """A vote as it is recorded."""
    return {"vote": {"by": by, "at": 1, "outcome": outcome, "hash": hash_, "reason": "ok", "on_behalf_of": "",
                     "roles": ["clerk"], "authentication": "oidc", "received_at": 1, "answer": {}}}  # fmt: skip


LIFE: list[tuple[str, dict[str, Any]]] = [
    ("task.opened", OPENED),
    ("task.claimed", {"by": "ana", "at": 1}),
    ("task.commented", {"by": "ana", "text": "looking", "at": 1, "replaces": 0}),
    ("task.released", {"by": "ana", "at": 1}),
    ("task.delegated", {"by": "ana", "roles": [], "to": "ben", "until": 0, "reason": "", "at": 1}),
    ("task.voted", vote("cleo", "h1")),
    ("task.escalated", {"level": 1, "to": [{"role": "head"}], "due": 2_000_000_000_000_000, "was_due": 1}),
    ("task.amended", {"shown": {"amount": "8"}, "hash": "h2", "event": {}, "type": "E", "at": 1}),
    ("task.voted", vote("dan", "h2")),
    ("task.reassigned", {"by": "op", "to": [{"role": "board"}], "reason": "", "at": 1}),
    ("task.whispered", {"of": "the future"}),
    ("compensation.started", {"failure": {"kind": "cancelled"}, "withdrawn": ["approve", "no task"]}),
]


async def lived(store: PostgresStore, runner: Runner) -> list[datetime]:
    """The life of a task, each record in a batch of its own; gives the instants after each."""
    started = {"name": "payment", "version": 1, "business_key": "K-7", "tenant": "main", "saga_id": SAGA.saga_id,
               "type": "T", "data": {"customer_id": 77}, "at": 1}  # fmt: skip
    await written(store, append(SAGA, 0, records=[NewRecord("saga.started", "", started, "system", "c")]))
    moments = []
    for version, (type_, data) in enumerate(LIFE, start=1):
        activity = "approve" if type_.startswith("task.") else ""
        now = await written(store, append(SAGA, version, records=[NewRecord(type_, activity, data, "person:x", "c")]))
        runner.projection.forget()  # as after a restart: folded anew from the stream
        while await runner.step():
            pass
        moments.append(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=now))
    return moments


async def test_each_thing_that_people_do_with_a_task_is_there_for_its_time(database: Database) -> None:
    """At every instant of its life the task is shown as it stood; comments and unknown records change nothing."""
    async with PostgresStore(database.url) as store:
        runner = Runner(store, Feed(store), ApprovalsProjection(), batch_records=1, poll_ms=1)
        moments = await lived(store, runner)
        models = Models(store)
        seen = []
        for moment in moments:
            found = (await models.approvals.as_of("main", moment)).items
            seen.append([(t.change, t.claimed_by, t.delegated_to, t.level, t.round, t.votes, t.to) for t in found])
        first = ("person:ana", "role:clerk")
        more = ("person:ana", "role:clerk", "role:head")
        claimed = ("task.claimed", "ana", "", 0, 1, 0, first)
        moved = ("task.reassigned", "", "ben", 1, 2, 1, ("role:board",))
        assert seen == [
            [("task.opened", "", "", 0, 1, 0, first)],
            [claimed],
            [claimed],
            [("task.released", "", "", 0, 1, 0, first)],
            [("task.delegated", "", "ben", 0, 1, 0, first)],
            [("task.voted", "", "ben", 0, 1, 1, first)],
            [("task.escalated", "", "ben", 1, 1, 1, more)],
            [("task.amended", "", "ben", 1, 2, 0, more)],
            [("task.voted", "", "ben", 1, 2, 1, more)],
            [moved],
            [moved],
            [],
        ]
        history = (await models.approvals.history("main", SAGA.saga_id, "approve")).items
        assert (history[-1].state, history[-1].change) == ("withdrawn", "compensation.started")
        assert {entry.customer for entry in history} == {"77"}
        for whose, moment, there in (
            ("person:ana", moments[0], True),
            ("person:ben", moments[3], False),
            ("person:ben", moments[4], True),  # delegated to him
            ("role:head", moments[5], False),
            ("role:head", moments[6], True),
        ):
            found = (await models.approvals.as_of("main", moment, candidates=[whose])).items
            assert bool(found) is there, (whose, moment)
        votes = {who: (await models.approvals.decided_by("main", who)).items[0] for who in ("cleo", "dan")}
        assert {who: (found.counted, found.round, found.decided) for who, found in votes.items()} == {
            "cleo": (False, 1, False),
            "dan": (True, 2, False),
        }


async def test_one_record_at_a_time_and_all_at_once_give_the_same_rows(database: Database) -> None:
    """The live one restarted after each record; the rebuild took them all in one batch."""
    async with PostgresStore(database.url) as store:
        await lived(store, Runner(store, Feed(store), ApprovalsProjection(), batch_records=1, poll_ms=1))
    built = await rebuild(database.url, "approvals", swap=False)
    assert built.same_records
    assert built.same_rows, built.differences


async def test_a_value_given_by_hand_leaves_its_task_open_and_a_failed_amendment_its_votes_void(
    database: Database,
) -> None:
    """What is shown could not be built anew; an operator gave it. Nobody has decided anything."""
    amended = {"shown": {"amount": "8"}, "hash": "h2", "event": {}, "type": "E", "at": 1}
    by_hand = {"place": "!approve", "by": "op", "reason": "r", "answers": 4, "function": "approve#shown", "value": {}}
    life: list[tuple[str, dict[str, Any]]] = [
        ("saga.started", {"name": "payment", "version": 1, "at": 1}),
        ("task.opened", OPENED),
        ("task.voted", vote("cleo", "h1")),
        ("task.amend_failed", {"event": {}, "type": "E", "at": 1}),
        ("operator.completed_by_hand", by_hand),
    ]
    after = [("task.amended", amended), ("task.voted", vote("dan", "h2"))]
    async with PostgresStore(database.url) as store:
        runner = Runner(store, Feed(store), ApprovalsProjection(), batch_records=10, poll_ms=1)
        models = Models(store)

        async def take(records: list[tuple[str, dict[str, Any]]], before: int) -> None:
            made = [NewRecord(type_, "" if type_ == "saga.started" else "approve", data, "person:x", "c")
                    for type_, data in records]  # fmt: skip
            await written(store, append(SAGA, before, records=made))
            while await runner.step():
                pass

        await take(life, 0)
        assert [task.votes for task in (await models.approvals.as_of("main")).items] == [0]
        assert [one.counted for one in (await models.approvals.decided_by("main", "cleo")).items] == [False]
        await take(after, len(life))
        assert [(task.round, task.votes) for task in (await models.approvals.as_of("main")).items] == [(2, 1)]
        assert [one.counted for one in (await models.approvals.decided_by("main", "dan")).items] == [True]


async def test_a_reminder_is_nothing_that_a_task_is_due_for(database: Database) -> None:
    """It changes no row, so a row must not say that it is to come: it would stay overdue for ever."""
    soon, level = 1_850_000_000_000_000, 1_900_000_000_000_000
    reminded = {"number": 1, "due": level, "was_due": soon, "at": soon}
    async with PostgresStore(database.url) as store:
        runner = Runner(store, Feed(store), ApprovalsProjection(), batch_records=10, poll_ms=1)
        await written(
            store,
            append(SAGA, 0, records=[
                NewRecord("saga.started", "", {"name": "payment", "version": 1, "at": 1}, "system", "c"),
                NewRecord("task.opened", "approve", {**OPENED, "due": soon, "reminders": [soon]}, "system", "c"),
                NewRecord("task.reminded", "approve", reminded, "system", "c"),
            ]),
        )  # fmt: skip
        assert await runner.step() == 3
        (task,) = (await Models(store).approvals.as_of("main")).items
        assert task.due == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=level)


@pytest.mark.parametrize(
    ("now", "shown"),
    [(1_800_000_000_000_001, "in time"), (1_960_000_000_000_000, "at risk"), (2_000_000_000_000_000, "overdue")],
)
def test_how_a_time_limit_stands_is_said_in_one_word(now: int, shown: str) -> None:
    """The last quarter is a risk; the very instant of the end is too late."""
    assert sla_of(1_800_000_000_000_000, 2_000_000_000_000_000, now) == shown
    assert sla_of(1, 0, now) == "none"


def record(version: int, type_: str, activity: str = "", /, **data: Any) -> FeedRecord:
    """One record of a stream, a second after the one before."""
    return FeedRecord(version, "S", version, type_, activity, data, "system", version * 1_000_000, "main", "", b"")


def started() -> FeedRecord:
    """The first record of a stream."""
    return record(1, "saga.started", saga_id="S", tenant="main", name="n", version=1, business_key="k", type="T",
                  data={}, at=1)  # fmt: skip


def told(*records: FeedRecord) -> tuple[JourneyFold, list[Span], Counter[str]]:
    """A stream folded: its end, the stays behind it, and what it counts for."""
    fold = JourneyFold()
    spans = [span for one in records for span in fold.take(one)]
    return fold, spans, Counter({metric: n for (_, metric), n in fold.levels.items()})


COMMAND: dict[str, Any] = {"command": {"type": "C"}, "round": 1, "attempt": 1, "at": 1, "undoable": True}


def test_a_step_that_recovers_by_itself_is_one_stay_with_its_attempts() -> None:
    """Failed, timed out, then answered: transient, and recovered."""
    _, spans, counts = told(
        started(),
        record(2, "step.requested", "pay", **COMMAND, due=9),
        record(3, "step.failed", "pay", due=9),
        record(4, "step.requested", "pay", attempt=2, due=9),
        record(5, "step.timed_out", "pay", due=9),
        record(6, "step.requested", "pay", attempt=3, due=9),
        record(7, "step.succeeded", "pay"),
    )
    assert spans == [Span("pay", "step", 2_000_000, 7_000_000, "succeeded", 3)]
    assert (counts["transient"], counts["recovered"]) == (1, 1)


def test_a_step_that_somebody_had_to_finish_has_not_recovered() -> None:
    """An operator completed it by hand."""
    _, spans, counts = told(
        started(),
        record(2, "step.requested", "pay", **COMMAND),
        record(3, "step.failed", "pay"),
        record(4, "saga.stuck", "pay", place="!pay", reason="r", cause="exhausted"),
        record(5, "operator.completed_by_hand", "pay", place="!pay", result={}),
    )
    assert [span.outcome for span in spans] == ["succeeded"]
    assert (counts["transient"], counts["recovered"]) == (1, 0)


def test_undos_count_by_who_carried_them_out() -> None:
    """One by its participant, one skipped by an operator after it got stuck."""
    _, spans, counts = told(
        started(),
        record(2, "step.requested", "a", **COMMAND),
        record(3, "step.succeeded", "a"),
        record(4, "step.requested", "b", **COMMAND),
        record(5, "step.succeeded", "b"),
        record(6, "compensation.started", failure={"kind": "exhausted"}, withdrawn=[], at=1),
        record(7, "undo.planned", plan=["b", "a"]),
        record(8, "undo.requested", "b", round=1, attempt=1, base=0, command={}, due=9),
        record(9, "undo.succeeded", "b"),
        record(10, "undo.requested", "a", round=1, attempt=1, base=0, command={}, due=9),
        record(11, "undo.failed", "a", attempt=1),
        record(12, "saga.stuck", "a", place="~a", reason="r", cause="undo"),
        record(13, "operator.skipped", "a", place="~a"),
        record(14, "saga.compensated", outcome="failed"),
    )
    assert [(span.activity, span.outcome) for span in spans if span.kind == "undo"] == [("b", "done"), ("a", "skipped")]
    assert (counts["undo_done"], counts["undo_by_hand"], counts["back_failed"], counts["completed"]) == (1, 1, 1, 0)


def test_a_completed_child_that_its_parent_undoes_is_under_way_again() -> None:
    """Where its undo is stuck, somebody must see it; and it ends anew, when that is over."""
    stream = [
        started(),
        record(2, "step.requested", "a", **COMMAND),
        record(3, "step.succeeded", "a"),
        record(4, "saga.completed", outcome="completed", result=None),
        record(5, "compensation.started", failure={"kind": "parent"}, withdrawn=[], by_parent=True, at=1),
        record(6, "undo.planned", plan=["a"]),
        record(7, "undo.requested", "a", round=1, attempt=1, base=0, command={}, due=9),
        record(8, "undo.failed", "a", attempt=1),
        record(9, "saga.stuck", "a", place="~a", reason="r", cause="undo"),
    ]
    fold, _, _ = told(*stream[:4])
    assert fold.ended_at == 4_000_000
    fold, _, _ = told(*stream)
    assert (fold.ended_at, [(stay.activity, stay.kind) for stay in fold.places()]) == (0, [("a", "stuck")])
    fold, _, counts = told(
        *stream, record(10, "operator.skipped", "a", place="~a"), record(11, "saga.compensated", outcome="failed")
    )
    assert fold.ended_at == 11_000_000
    assert (counts["completed"], counts["back_business"]) == (1, 0), "one saga is one of all that ended"


def test_a_task_counts_by_how_it_ended() -> None:
    """Escalated and expired: a breach; withdrawn: nobody's fault, and in no figure."""
    _, _, counts = told(
        started(),
        record(2, "task.opened", "t", **OPENED),
        record(3, "task.escalated", "t", level=1, to=[], due=9),
        record(4, "task.expired", "t", at=1),
        record(5, "task.opened", "u", **OPENED),
        record(6, "compensation.started", failure={"kind": "cancelled"}, withdrawn=["u"], at=1),
    )
    assert {name: n for name, n in counts.items() if name.startswith("tasks")} == {
        "tasks_opened": 2, "tasks_escalated": 1, "tasks_expired": 1,
    }  # fmt: skip


def test_a_stream_that_cannot_be_is_refused() -> None:
    """The kernel's fold says so, and the projection names the record."""
    with pytest.raises(FoldError):
        told(started(), record(2, "step.unheard_of", "x"))


def test_percentiles_are_right_within_a_class() -> None:
    """Against the exact ones, for durations from a millisecond to a month."""
    for exact_ms in (1, 7, 130, 5_000, 61_000, 86_400_000, 2_592_000_000):
        counts = Counter({duration_class(exact_ms): 95, duration_class(exact_ms * 100): 5})
        found = percentile(counts, 0.95)
        assert found is not None
        assert found * 1000 == pytest.approx(exact_ms, rel=0.051, abs=0.1)
    assert class_seconds(duration_class(1_000)) == pytest.approx(1, rel=0.051)
    assert percentile({}, 0.95) is None


def test_a_level_without_figures_is_neither_good_nor_bad() -> None:
    """And overdue open tasks are breaches before anybody closes them."""
    assert {level.good for level in levels({})} == {None}
    adherence = next(level for level in levels({"tasks_decided": 99}, overdue=2) if level.key == "adherence")
    assert (adherence.part, adherence.whole, adherence.good) == (99, 101, False)


@pytest.mark.parametrize(
    ("fields", "customer"),
    [({"customer_id": "c", "user_id": "u"}, "c"), ({"user_id": 7}, "7"), ({"customer_id": ""}, ""),
     ({"customer_id": True}, ""), ({"customer_id": {"a": 1}}, ""), ({"customer": "x" * 999}, "x" * 200), ({}, "")],
)  # fmt: skip
def test_the_customer_of_a_start_is_found_in_the_usual_fields(fields: dict[str, Any], customer: str) -> None:
    """A text or a number, of a length that an index can hold."""
    assert usual_customer("any", fields) == customer


async def test_a_saga_that_customers_know_is_found_beside_a_newer_one_of_its_key(database: Database) -> None:
    """Its own child, for example: under the same key, and nothing of it is exposed."""
    view = CustomerView("payment", title="Your payment", customer="customer_id")
    async with PostgresStore(database.url) as store:
        for name, at in (("payment", 1), ("booking", 2)):
            data = {"name": name, "version": 1, "business_key": "K-7", "tenant": "main", "saga_id": f"main.{name}.K-7",
                    "type": "T", "data": {"customer_id": "ana"}, "at": at}  # fmt: skip
            await written(store, append(start("K-7", name=name), 0,
                                        records=[NewRecord("saga.started", "", data, "system", "c")]))  # fmt: skip
        runner = Runner(store, Feed(store), JourneysProjection(), batch_records=10, poll_ms=1)
        assert await runner.step() == 2
        progress = Models(store, views={"payment": view}).customers.progress
        for customer in ("ana", None):
            found = await progress("main", "K-7", customer)
            assert found is not None
            assert found.title == "Your payment"
        assert await progress("main", "K-7", "ben") is None


async def test_an_open_task_whose_time_is_over_is_a_breach_already(database: Database) -> None:
    """Before its timer has fired, and before anybody closes it; escalated or not."""
    async with PostgresStore(database.url) as store:
        opened = {**OPENED, "expires": 1_000, "due": 500, "at": 1}
        later = {**OPENED, "levels": []}
        await written(
            store,
            append(SAGA, 0, records=[
                NewRecord("saga.started", "", {"name": "payment", "version": 1, "at": 1}, "system", "c"),
                NewRecord("task.opened", "late", opened, "system", "c"),
                NewRecord("task.opened", "early", later, "system", "c"),
            ]),
        )  # fmt: skip
        runner = Runner(store, Feed(store), ApprovalsProjection(), batch_records=10, poll_ms=1)
        assert await runner.step() == 3
        adherence = {level.key: level for level in (await Models(store).levels.tiles("main")).levels}["adherence"]
        assert (adherence.part, adherence.whole) == (0, 1)
        other = {level.key: level for level in (await Models(store).levels.tiles("main", name="x")).levels}["adherence"]
        assert (other.part, other.whole) == (0, 0)
