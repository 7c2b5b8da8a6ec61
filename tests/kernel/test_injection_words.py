"""Injection: events, decisions, the context, start messages, computed values, values typed by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

from pydantic import BaseModel

from orchestrator import (
    Command,
    Context,
    Decision,
    Done,
    Event,
    Key,
    Saga,
    compute,
    parallel,
    publish,
    scope,
    step,
    wait_for,
)
from orchestrator.testing import (
    APPROVE,
    Spec,
    arrived,
    asked,
    decided,
    ended,
    given,
    operated,
    published,
    refused,
    replied,
    stuck,
)
from tests.kernel.trips import (
    CAR,
    HOLD_CAR,
    NOTED,
    ROOM,
    WANTED,
    CarHeld,
    Note,
    Noted,
    RoomHeld,
    TripChanged,
    TripWanted,
    TripWithdrawn,
    approve,
    hold_car,
    hold_room,
    note,
)

DAY = timedelta(days=1)


class Seen(Event):
    """What a function was given, published for the test to see."""

    trip: Key[str]
    what: str


def seen(what: object) -> Seen:
    """The expected event."""
    return Seen(trip="t-1", what=str(what))


def stops(wanted: TripWanted) -> list[int]:
    return list(range(wanted.stops))


def last(spec: Spec) -> str:
    """What the last function saw."""
    return str(next(output.body["what"] for output in reversed(spec.outputs) if output.kind == "published"))


def test_an_event_is_injected_where_it_was_waited_for() -> None:
    """wait_for, on_event."""

    def tell(wanted: TripWanted, changed: TripChanged) -> Seen:
        return Seen(trip=wanted.trip, what=changed.note)

    changed = arrived(TripChanged(trip="t-1", note="two beds"))
    flow = [wait_for(TripChanged, within=DAY), publish(tell)]
    waiting = Saga("given_wait", version=1, starts_on=TripWanted, flow=flow)
    given(waiting, WANTED).when(changed).then(published(seen("two beds")), ended())
    body = scope(hold_room, approve).on_event(TripChanged, publish(tell)).on_event(TripWithdrawn)
    stopping = Saga("given_event", version=1, starts_on=TripWanted, flow=[body])
    given(stopping, WANTED, ROOM).when(changed).then(published(seen("two beds")), ended())


def test_of_two_events_of_a_scope_only_the_one_that_came_is_there() -> None:
    """T | None of each."""

    def tell(wanted: TripWanted, changed: TripChanged | None, withdrawn: TripWithdrawn | None) -> Seen:
        return Seen(trip=wanted.trip, what=f"{changed is not None} {withdrawn is not None}")

    body = scope(hold_room, approve).on_event(TripChanged).on_event(TripWithdrawn)
    saga = Saga("given_two", version=1, starts_on=TripWanted, flow=[body, publish(tell)])
    given(saga, WANTED, ROOM).when(arrived(TripWithdrawn(trip="t-1"))).then(published(seen("False True")), ended())
    given(saga, WANTED, ROOM).when(arrived(TripChanged(trip="t-1"))).then(published(seen("True False")), ended())


def test_a_decision_is_injected_with_its_person() -> None:
    """Decision = Decision[Approval]."""

    def tell(wanted: TripWanted, decision: Decision) -> Seen:
        return Seen(trip=wanted.trip, what=f"{decision.by.id} {decision.outcome.value} {decision.answer.reason}")

    saga = Saga("given_decision", version=1, starts_on=TripWanted, flow=[approve, publish(tell)])
    given(saga, WANTED).when(decided(approve, APPROVE, by="max", reason="fine")).then(
        published(seen("max approve fine")), ended()
    )


def test_the_context_says_where_and_when() -> None:
    """Rule 4 of injection."""

    def tell(wanted: TripWanted, context: Context) -> Seen:
        return Seen(trip=wanted.trip, what=f"{context.business_key} {context.tenant} {context.now.isoformat()}")

    saga = Saga("given_context", version=1, starts_on=TripWanted, flow=[publish(tell)])
    spec = given(saga, WANTED)
    assert last(spec) == "t-1 main 2026-01-05T09:00:00.000001+00:00"


class TripImported(Event):
    """Another way to start."""

    trip: Key[str]
    source: str


def test_a_union_of_start_messages_says_where_the_saga_came_from() -> None:
    """Rule 3 of injection."""

    def tell(start: TripWanted | TripImported) -> Seen:
        return Seen(trip=start.trip, what=type(start).__name__)

    saga = Saga("given_union", version=1, starts_on=[TripWanted, TripImported], flow=[publish(tell)])
    given(saga, WANTED).then(published(seen("TripWanted")), ended())
    given(saga, TripImported(trip="t-1", source="fax")).then(published(seen("TripImported")), ended())


class Total(BaseModel):
    """A computed value with an exact amount."""

    amount: Decimal
    parts: list[int]


def test_a_computed_model_comes_back_as_it_was() -> None:
    """Decimals keep their value through the stream."""

    def total(wanted: TripWanted) -> Total:
        return Total(amount=Decimal("10.50"), parts=[1, 2])

    def tell(wanted: TripWanted, total: Total) -> Seen:
        return Seen(trip=wanted.trip, what=f"{total.amount * 2} {total.parts}")

    saga = Saga("given_model", version=1, starts_on=TripWanted, flow=[compute(total), note, publish(tell)])
    given(saga, WANTED).when(NOTED).then(published(seen("21.0 [1, 2]")), ended())


def test_a_reply_typed_by_hand_is_injected_like_any_other() -> None:
    """Rule 7 of injection."""

    def tell(wanted: TripWanted, room: RoomHeld) -> Seen:
        return Seen(trip=wanted.trip, what=room.room)

    saga = Saga("given_hand", version=1, starts_on=TripWanted, flow=[hold_room, publish(tell)])
    spec = given(saga, WANTED, refused(hold_room), forward_only=True)
    spec.when(operated("done", hold_room, data={"room": "by phone"})).then(published(seen("by phone")), ended())


def test_a_reply_that_cannot_be_read_any_more_makes_its_reader_stuck() -> None:
    """V14: nothing crashes, nothing is lost."""

    def tell(wanted: TripWanted, room: RoomHeld) -> Seen:
        return Seen(trip=wanted.trip, what=room.room)

    saga = Saga("given_unreadable", version=1, starts_on=TripWanted, flow=[hold_room, publish(tell)])
    spec = given(saga, WANTED).when(replace(ROOM, data={"lobby": "R"})).then(stuck(tell, "function"))
    assert "room" in next(iter(spec.state.stuck.values())).reason


def test_branches_see_what_was_before_the_fork_and_after_it_everything_is_there() -> None:
    """parallel."""

    @step(undo=None)
    def tell_room(room: RoomHeld) -> Note:
        return Note(trip=room.room)

    def tell(wanted: TripWanted, car: CarHeld, noted: Noted) -> Seen:
        return Seen(trip=wanted.trip, what=car.car)

    flow = [hold_room, parallel(tell_room, hold_car), publish(tell)]
    saga = Saga("given_branches", version=1, starts_on=TripWanted, flow=flow)
    spec = given(saga, WANTED).when(ROOM).then(asked(Note(trip="R")), asked(HOLD_CAR))
    spec.when(replied(tell_room, Noted())).then_nothing()
    spec.when(CAR).then(published(seen("C")), ended())


class Ping(Command[Done], to="desk"):
    """A command with the plain yes."""

    trip: str


def test_the_plain_yes_needs_no_reply_in_a_specification() -> None:
    """replied(step) of a Command[Done]."""

    @step(undo=None)
    def ping(wanted: TripWanted) -> Ping:
        return Ping(trip=wanted.trip)

    saga = Saga("given_done", version=1, starts_on=TripWanted, flow=[ping])
    given(saga, WANTED).when(replied(ping)).then(ended())
