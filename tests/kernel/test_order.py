"""S9, S10, S12: who takes an event, leaving a loop, and the order of a turn."""

from __future__ import annotations

from datetime import timedelta

from orchestrator import (
    Context,
    Event,
    Key,
    Saga,
    for_each,
    leave,
    parallel,
    repeat,
    scope,
    step,
    wait_for,
    when,
)
from orchestrator.kernel.api import Limits
from orchestrator.testing import (
    REJECT,
    arrived,
    asked,
    awaits,
    cancelled,
    decided,
    elapsed,
    ended,
    given,
    opened,
    refused,
    settling,
)
from tests.kernel.trips import (
    CAR,
    FREE_ROOM,
    HOLD_CAR,
    HOLD_SEAT,
    NOTE,
    NOTED,
    ROOM,
    SEAT,
    WANTED,
    FreeRoom,
    HoldRoom,
    RoomHeld,
    TripChanged,
    TripWanted,
    TripWithdrawn,
    approve,
    hold_car,
    hold_room,
    hold_seat,
    note,
    of,
    types,
)

WITHDRAWN = arrived(TripWithdrawn(trip="t-1"))
CHANGED = arrived(TripChanged(trip="t-1"))
ENOUGH = "cancelled by ann: enough"
CANCEL = cancelled("ann", "enough")


def stops(wanted: TripWanted) -> list[int]:
    return list(range(wanted.stops))


@step
def hold_stop(stop: int) -> HoldRoom:
    return HoldRoom(trip=f"stop {stop}")


@hold_stop.undo
def free_stop(held: RoomHeld) -> FreeRoom:
    return FreeRoom(room=held.room)


# --- S9: events


def same_key(wanted: TripWanted) -> str:
    """The saga's own key, written so that the check at import cannot know."""
    return TripWithdrawn.key_of(wanted.trip)


def test_an_event_goes_to_the_oldest_subscription_and_to_exactly_one() -> None:
    """S9: the scope was entered before the wait was opened."""
    waiting = wait_for(TripWithdrawn, within=timedelta(days=1), match=same_key, early=False).on_timeout()
    body = scope(hold_room, waiting).on_event(TripWithdrawn, note)
    saga = Saga("order_oldest", version=1, starts_on=TripWanted, flow=[body, hold_car])
    spec = given(saga, WANTED).when(ROOM).then(awaits(TripWithdrawn))
    spec.when(WITHDRAWN).then(asked(NOTE))
    assert of(spec, "event.received") == []


def test_of_two_waits_the_older_takes_the_event_and_the_next_event_is_for_the_other() -> None:
    """S9."""
    first = wait_for(TripWithdrawn, within=timedelta(days=1)).on_timeout().named("first")
    second = wait_for(TripWithdrawn, within=timedelta(days=1), match=same_key).on_timeout().named("second")
    saga = Saga("order_two", version=1, starts_on=TripWanted, flow=[parallel([first], [second])])
    spec = given(saga, WANTED).when(WITHDRAWN)
    assert [record.activity.rpartition("/")[2] for record in of(spec, "event.received")] == ["first"]
    spec.when(arrived(TripWithdrawn(trip="t-1"))).then(ended())


def test_what_arrives_for_a_scope_that_has_ended_stays_early() -> None:
    """S9: a later entry with the same key takes it."""
    body = scope(hold_room).on_event(TripWithdrawn, note)
    later = scope(hold_seat, approve).on_event(TripWithdrawn, hold_car)
    saga = Saga("order_early", version=1, starts_on=TripWanted, flow=[body, later])
    spec = given(saga, WANTED, ROOM, WITHDRAWN)
    assert "scope.interrupted" in types(spec)


# --- S10: leave


def test_leaving_a_loop_closes_the_scopes_of_that_round() -> None:
    """S10: no subscription and no timer of them survives."""
    body = (
        scope(hold_room, leave(), within=timedelta(hours=1))
        .on_event(TripWithdrawn, note)
        .on_timeout(note.named("late"))
    )
    saga = Saga("order_leave", version=1, starts_on=TripWanted, flow=[repeat(body, at_most=3), hold_car])
    spec = given(saga, WANTED).when(ROOM).then(asked(HOLD_CAR))
    assert of(spec, "loop.left")[0].data["withdrawn"]
    assert spec.state.scopes == {}
    assert spec.world.main.subscriptions == []
    spec.when(elapsed(hours=2))
    assert "scope.interrupted" not in types(spec)


def test_a_loop_goes_round_until_it_is_left() -> None:
    """S10: and what follows the loop goes on with this round's results."""

    def enough(context: Context) -> bool:
        return context.iteration[0] == 1

    flow = [repeat(hold_room, when(enough, leave()), at_most=5), note]
    saga = Saga("order_rounds", version=1, starts_on=TripWanted, flow=flow)
    spec = given(saga, WANTED).when(ROOM).then(asked(HoldRoom(trip="t-1"), at=1))
    spec.when(ROOM).then(asked(NOTE))
    assert spec.undo_plan() == ["hold_room.repeat[1]/hold_room", "hold_room.repeat[0]/hold_room"]


def test_a_loop_that_is_never_left_fails_after_its_last_round() -> None:
    """A bound is a bound: the planted bug is one round too many."""
    saga = Saga("order_bound", version=1, starts_on=TripWanted, flow=[repeat(note, at_most=2)])
    spec = given(saga, WANTED, NOTED).when(NOTED)
    assert spec.state.phase == "compensated"
    assert len(of(spec, "step.requested")) == 2


def test_a_loop_that_is_never_left_takes_its_path() -> None:
    """otherwise."""
    flow = [repeat(note, at_most=2).otherwise(hold_car), hold_seat]
    saga = Saga("order_otherwise", version=1, starts_on=TripWanted, flow=flow)
    given(saga, WANTED, NOTED).when(NOTED).then(asked(HOLD_CAR)).when(CAR).then(asked(HOLD_SEAT))


# --- S12: the order of a turn


def test_a_turn_that_stops_at_its_limit_asks_to_be_resumed_and_loses_nothing() -> None:
    """S12: a long for_each in many small turns."""
    saga = Saga("order_limit", version=1, starts_on=TripWanted, flow=[for_each(stops, note, at_once=50), hold_car])
    whole = given(saga, TripWanted(trip="t-1", stops=30))
    cut = given(saga, TripWanted(trip="t-1", stops=30), limits=Limits(turn_records_max=3))
    assert [(r.type, r.activity) for r in cut.records] == [(r.type, r.activity) for r in whole.records]


def test_a_limit_never_cuts_between_a_closing_and_its_fences() -> None:
    """S3: else a crash in between would leave steps unsettled."""
    body = scope(parallel(hold_room, hold_seat, hold_car)).on_event(TripWithdrawn, note)
    saga = Saga("order_cut", version=1, starts_on=TripWanted, flow=[body])
    spec = given(saga, WANTED, limits=Limits(turn_records_max=1)).when(WITHDRAWN)
    spec.then(settling(hold_car), settling(hold_seat), settling(hold_room))
    assert types(spec)[-4:] == ["scope.interrupted", *["fence.requested"] * 3]


def test_a_ready_scope_is_seen_when_a_turn_asks_whether_it_must_resume() -> None:
    """S12: with a limit of one record the closing of the scope is the rest."""
    flow = [scope(hold_room, hold_seat).on_failed(note), hold_car]
    saga = Saga("order_ready", version=1, starts_on=TripWanted, flow=flow)
    spec = given(saga, WANTED, ROOM, limits=Limits(turn_records_max=1)).when(refused(hold_seat))
    spec.then(asked(FREE_ROOM), asked(NOTE))


def test_a_closing_scope_goes_on_before_a_token_moves() -> None:
    """S12: the handler of the scope is asked before the other branch's next step."""
    body = scope(hold_room, approve).on_event(TripWithdrawn, note)
    saga = Saga("order_first", version=1, starts_on=TripWanted, flow=[parallel([body], [hold_car, hold_seat])])
    spec = given(saga, WANTED, ROOM).when(CAR).then(asked(HOLD_SEAT)).when(WITHDRAWN).then(asked(NOTE))
    spec.when(SEAT, NOTED).then(ended())


def test_a_rejection_inside_a_scope_fails_the_scope() -> None:
    """S5."""
    body = scope(hold_room, approve).on_failed(note)
    saga = Saga("order_rejected", version=1, starts_on=TripWanted, flow=[body])
    given(saga, WANTED).when(ROOM).then(opened(approve)).when(decided(approve, REJECT, by="max")).then(
        asked(FREE_ROOM), asked(NOTE)
    )


class Reminder(Event):
    """An event of a key that is built by a function."""

    trip: Key[str]
    stop: Key[int]


def test_a_scope_that_was_interrupted_before_anything_was_done_goes_on_at_once() -> None:
    """S4: nothing to settle."""

    def key(wanted: TripWanted) -> str:
        return Reminder.key_of(wanted.trip, 7)

    body = scope(wait_for(Reminder, within=timedelta(days=1), match=key)).on_event(TripWithdrawn, note)
    saga = Saga("order_at_once", version=1, starts_on=TripWanted, flow=[body])
    spec = given(saga, WANTED).then(awaits(Reminder)).when(arrived(Reminder(trip="t-1", stop=8))).then_nothing()
    spec.when(WITHDRAWN).then(asked(NOTE))
