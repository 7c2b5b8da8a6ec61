"""Sagas that call sagas: messages between them, refusals, undo of a child that never began."""

from __future__ import annotations

from orchestrator.kernel.inputs import Cancel
from orchestrator.messages import Done
from orchestrator.runtime.identity import saga_id_of
from orchestrator.runtime.work import Cause, SagaInput
from orchestrator.store.contract import OutboxRow
from tests.runtime.desk import Desk, Eyes, event, incoming, reply
from tests.runtime.shop import BookHotel, TripBooked

TRIP = saga_id_of("main", "trip", "t-1")


def arrived(row: OutboxRow):  # type: ignore[no-untyped-def]
    """A message between sagas as it comes back from the broker."""
    return incoming(row.topic, row.key, row.headers, row.value)


def between(desk: Desk) -> list[OutboxRow]:
    return [row for row in desk.sent if row.topic == "orchestrator.sagas"]


async def test_a_child_runs_and_its_parent_hears(desk: Desk, eyes: Eyes) -> None:
    await desk.take(event(TripBooked(trip_id="t-1", hotel="ritz")))
    (start,) = between(desk)
    await desk.take(arrived(start))
    await desk.take(reply(desk.newest("hotels"), Done()))
    answer = between(desk)[-1]
    await desk.take(arrived(answer))
    assert (await eyes.stream(TRIP))[-1] == "saga.completed"
    assert (await eyes.stream(start.key))[-1] == "saga.completed"
    (child,) = await eyes.rows("SELECT name, parent, business_key FROM saga_heads WHERE saga_id = $1", start.key)
    assert child == {"name": "hotel", "parent": TRIP, "business_key": "ritz"}


async def test_messages_between_sagas_are_taken_once(desk: Desk, eyes: Eyes) -> None:
    await desk.take(event(TripBooked(trip_id="t-1", hotel="ritz")))
    (start,) = between(desk)
    first, second = await desk.take(arrived(start), arrived(start))
    assert (first.fate, second.fate) == ("applied", "duplicate")
    assert len(desk.commands()) == 1


async def test_a_call_that_meets_a_live_run_of_the_same_key_is_refused_at_once(desk: Desk, eyes: Eyes) -> None:
    """The parent hears in the very transaction, without a message that could be lost."""
    await desk.take(event(TripBooked(trip_id="t-1", hotel="ritz")), event(TripBooked(trip_id="t-2", hotel="ritz")))
    one, two = between(desk)
    await desk.take(arrived(one))
    (outcome,) = await desk.take(arrived(two))
    assert outcome.fate == "refused"
    assert outcome.refusal is not None
    assert outcome.refusal.code == "already_running"
    loser = saga_id_of("main", "trip", "t-2")
    assert "child.failed" in await eyes.stream(loser)
    assert (await eyes.stream(loser))[-1] == "saga.completed"
    assert await eyes.count("saga_heads") == 3, "no head is left of the child that never was"
    assert await eyes.letters() == []


async def test_a_start_that_meets_a_live_run_of_the_same_key_is_kept(desk: Desk, eyes: Eyes) -> None:
    from tests.runtime.shop import NapTaken

    await desk.take(event(NapTaken(nap_id="n-1"), id="a"))
    (outcome,) = await desk.take(event(NapTaken(nap_id="n-1"), id="b"))
    assert (outcome.fate, outcome.reason) == ("dead", "already_running")
    (first,) = await eyes.rows("SELECT saga_id, activity, armed FROM timers")
    await desk.fire(**first)
    (again,) = await desk.take(event(NapTaken(nap_id="n-1"), id="c"))
    assert again.fate == "applied"
    assert await eyes.count("saga_heads") == 2


async def test_undo_of_a_child_that_never_began_leaves_a_tombstone(desk: Desk, eyes: Eyes) -> None:
    await desk.take(event(TripBooked(trip_id="t-1", hotel="ritz")))
    (start,) = between(desk)
    await desk.decide(SagaInput(TRIP, Cancel("maria", "no more"), Cause("main", "person:maria")))
    unwind = between(desk)[-1]
    await desk.take(arrived(unwind))
    assert await eyes.stream(start.key) == ["saga.tombstoned"]
    (late,) = await desk.take(arrived(start))
    assert late.fate in ("nothing", "refused")
    assert await eyes.stream(start.key) == ["saga.tombstoned"]
    await desk.take(arrived(between(desk)[-1]))
    assert (await eyes.stream(TRIP))[-1] == "saga.compensated"
    assert await eyes.count("live_runs") == 0


async def test_a_message_between_sagas_with_a_type_its_child_does_not_start_on_is_kept(desk: Desk) -> None:
    await desk.take(event(TripBooked(trip_id="t-1", hotel="ritz")))
    (start,) = between(desk)
    (outcome,) = await desk.take(
        incoming(start.topic, start.key, start.headers, start.value.replace(b"trips.BookHotel", b"trips.Nonsense"))
    )
    assert (outcome.fate, outcome.reason) == ("dead", "invalid")
    assert BookHotel.wire_name == "trips.BookHotel"
