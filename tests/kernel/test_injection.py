"""Injection: what a function sees of steps, items and rounds. Results of undone steps are gone."""

from __future__ import annotations

from datetime import timedelta

from orchestrator import (
    Context,
    Event,
    Failure,
    Key,
    Saga,
    compute,
    fail,
    for_each,
    leave,
    publish,
    repeat,
    scope,
    step,
    when,
)
from orchestrator.testing import (
    Spec,
    asked,
    compensated,
    ended,
    given,
    published,
    refused,
    replied,
)
from tests.kernel.trips import (
    CAR,
    FREE_ROOM,
    NOTE,
    NOTED,
    ROOM,
    WANTED,
    CarHeld,
    FreeRoom,
    HoldRoom,
    Note,
    Noted,
    RoomHeld,
    TripFailed,
    TripWanted,
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


def test_a_result_is_found_by_its_type() -> None:
    """Rule 1 of injection."""

    def tell(wanted: TripWanted, room: RoomHeld, car: CarHeld) -> Seen:
        return Seen(trip=wanted.trip, what=f"{room.room}{car.car}")

    saga = Saga("inject_type", version=1, starts_on=TripWanted, flow=[hold_room, hold_car, publish(tell)])
    given(saga, WANTED, ROOM).when(CAR).then(published(seen("RC")), ended())


def test_a_parameter_with_the_name_of_a_step_means_that_step() -> None:
    """Rule 2: needed where a type is not unique."""

    def tell(wanted: TripWanted, first: RoomHeld, second: RoomHeld) -> Seen:
        return Seen(trip=wanted.trip, what=f"{second.room}{first.room}")

    one, two = hold_room.named("first"), hold_room.named("second")
    saga = Saga("inject_name", version=1, starts_on=TripWanted, flow=[one, two, publish(tell)])
    spec = given(saga, WANTED, replied(one, RoomHeld(room="1")))
    spec.when(replied(two, RoomHeld(room="2"))).then(published(seen("21")), ended())


def quick(wanted: TripWanted) -> bool:
    return wanted.quick


def test_what_may_be_missing_is_none() -> None:
    """Rule 3."""

    def tell(wanted: TripWanted, room: RoomHeld | None) -> Seen:
        return Seen(trip=wanted.trip, what=room.room if room else "none")

    saga = Saga("inject_none", version=1, starts_on=TripWanted, flow=[when(quick, hold_room), publish(tell)])
    given(saga, WANTED).then(published(seen("none")), ended())
    given(saga, TripWanted(trip="t-1", quick=True)).when(ROOM).then(published(seen("R")), ended())


def test_a_refused_step_has_no_result() -> None:
    """Rule 3."""

    def tell(wanted: TripWanted, room: RoomHeld | None) -> Seen:
        return Seen(trip=wanted.trip, what=room.room if room else "none")

    saga = Saga("inject_refused", version=1, starts_on=TripWanted, flow=[hold_room.on_refused(), publish(tell)])
    given(saga, WANTED).when(refused(hold_room)).then(published(seen("none")), ended())


@step
def hold_stop(stop: int) -> HoldRoom:
    return HoldRoom(trip=f"stop {stop}")


@hold_stop.undo
def free_stop(stop: int, held: RoomHeld) -> FreeRoom:
    return FreeRoom(room=f"{stop}:{held.room}")


def rooms(wanted: TripWanted, rooms: list[RoomHeld]) -> Seen:
    return Seen(trip=wanted.trip, what=" ".join(room.room for room in rooms))


EACH = for_each(stops, hold_stop, at_once=3)


def test_the_item_is_injected_inside_its_run() -> None:
    """authoring: for_each."""
    saga = Saga("inject_item", version=1, starts_on=TripWanted, flow=[EACH, publish(rooms)])
    spec = given(saga, TripWanted(trip="t-1", stops=2))
    assert [sent.body["trip"] for sent in spec.sent] == ["stop 0", "stop 1"]


def test_results_of_items_come_as_a_list_in_item_order() -> None:
    """authoring: outside, list[T] in item order, whatever order they were answered in."""
    saga = Saga("inject_items", version=1, starts_on=TripWanted, flow=[EACH, publish(rooms)])
    spec = given(saga, TripWanted(trip="t-1", stops=3))
    for item in (2, 0, 1):
        spec.when(replied(hold_stop, RoomHeld(room=f"R{item}"), at=item))
    spec.then(published(seen("R0 R1 R2")), ended())


def test_more_than_ten_items_keep_their_order() -> None:
    """Index 10 comes after index 9, not after index 1."""
    each = for_each(stops, hold_stop, at_once=50)
    saga = Saga("inject_eleven", version=1, starts_on=TripWanted, flow=[each, publish(rooms)])
    spec = given(saga, TripWanted(trip="t-1", stops=12))
    spec.when(*(replied(hold_stop, RoomHeld(room=f"{item}"), at=item) for item in range(12)))
    assert last(spec) == " ".join(str(item) for item in range(12))


def test_inside_an_item_a_result_is_the_one_of_that_item() -> None:
    """Not the newest of all items."""

    @step(undo=None)
    def tell_stop(stop: int, held: RoomHeld) -> Note:
        return Note(trip=f"{stop}={held.room}")

    each = for_each(stops, hold_stop, tell_stop, at_once=2)
    saga = Saga("inject_own", version=1, starts_on=TripWanted, flow=[each])
    spec = given(saga, TripWanted(trip="t-1", stops=2))
    spec.when(replied(hold_stop, RoomHeld(room="one"), at=1)).then(asked(Note(trip="1=one"), at=1))
    spec.when(replied(hold_stop, RoomHeld(room="zero"), at=0)).then(asked(Note(trip="0=zero"), at=0))


def test_an_undo_of_an_item_gets_its_own_item_and_reply() -> None:
    """Rule 7 of injection."""
    saga = Saga("inject_undo", version=1, starts_on=TripWanted, flow=[EACH, fail("no")])
    spec = given(saga, TripWanted(trip="t-1", stops=2), replied(hold_stop, RoomHeld(room="a"), at=0))
    spec.when(replied(hold_stop, RoomHeld(room="b"), at=1)).then(
        asked(FreeRoom(room="1:b")), asked(FreeRoom(room="0:a")), compensated("no")
    )


def second_round(context: Context) -> bool:
    return context.iteration == (1,)


def test_after_a_loop_a_result_is_the_last_rounds_and_a_list_has_all() -> None:
    """authoring: repeat."""

    def tell(wanted: TripWanted, room: RoomHeld, rooms: list[RoomHeld]) -> Seen:
        return Seen(trip=wanted.trip, what=f"{room.room} of {[held.room for held in rooms]}")

    loop = repeat(hold_room, when(second_round, leave()), at_most=3)
    saga = Saga("inject_rounds", version=1, starts_on=TripWanted, flow=[loop, publish(tell)])
    spec = given(saga, WANTED, replied(hold_room, RoomHeld(room="one")))
    spec.when(replied(hold_room, RoomHeld(room="two"))).then(published(seen("two of ['one', 'two']")), ended())


def test_inside_a_round_earlier_rounds_come_as_a_list_only() -> None:
    """Rule 5 of injection."""

    def so_far(rooms: list[RoomHeld]) -> int:
        return len(rooms)

    def tell(wanted: TripWanted, so_far: int) -> Seen:
        return Seen(trip=wanted.trip, what=f"{so_far}")

    loop = repeat(hold_room, compute(so_far), publish(tell), at_most=2).otherwise()
    saga = Saga("inject_sofar", version=1, starts_on=TripWanted, flow=[loop])
    spec = given(saga, WANTED).when(ROOM)
    assert last(spec) == "1"
    spec.when(ROOM)
    assert last(spec) == "2"


def first_round(context: Context) -> bool:
    return context.iteration == (0,)


def test_inside_a_round_a_result_of_an_earlier_round_is_not_there() -> None:
    """Rule 5 of injection: T | None is this round's or nothing."""

    def tell(wanted: TripWanted, room: RoomHeld | None) -> Seen:
        return Seen(trip=wanted.trip, what=room.room if room else "none")

    loop = repeat(when(first_round, hold_room), publish(tell), at_most=2).otherwise()
    saga = Saga("inject_this_round", version=1, starts_on=TripWanted, flow=[loop])
    given(saga, WANTED).when(ROOM).then(published(seen("R")), published(seen("none")), ended())


def test_results_of_undone_steps_are_gone_on_the_failure_path() -> None:
    """Rule 5 of injection; what was not undone stays."""

    def tell(wanted: TripWanted, room: RoomHeld | None, noted: Noted | None, failure: Failure) -> TripFailed:
        return TripFailed(trip=wanted.trip, reason=f"{room} {noted is not None} {failure.reason}")

    saga = Saga(
        "inject_gone", version=1, starts_on=TripWanted, flow=[hold_room, note, hold_car], on_failed=publish(tell)
    )
    spec = given(saga, WANTED, ROOM, NOTED).when(refused(hold_car, "none"))
    spec.then(asked(FREE_ROOM), published(TripFailed(trip="t-1", reason="None True none")), compensated("none"))


def test_an_undo_may_ask_for_the_failure() -> None:
    """Rule 4 of injection."""

    @step
    def hold(wanted: TripWanted) -> HoldRoom:
        return HoldRoom(trip=wanted.trip)

    @hold.undo
    def free(held: RoomHeld, failure: Failure) -> FreeRoom:
        return FreeRoom(room=f"{held.room} because {failure.kind} {failure.reason}")

    saga = Saga("inject_failure", version=1, starts_on=TripWanted, flow=[hold, fail("of rain")])
    given(saga, WANTED).when(replied(hold, RoomHeld(room="R"))).then(
        asked(FreeRoom(room="R because failed of rain")), compensated("of rain")
    )


def test_a_scopes_failure_path_sees_its_own_failure() -> None:
    """Rule 4: the innermost."""

    def tell(wanted: TripWanted, failure: Failure) -> Seen:
        return Seen(trip=wanted.trip, what=f"{failure.kind} {failure.reason}")

    saga = Saga("inject_scope", version=1, starts_on=TripWanted, flow=[scope(hold_room).on_failed(publish(tell)), note])
    given(saga, WANTED).when(refused(hold_room, "full")).then(published(seen("refused full")), asked(NOTE))


def test_an_undo_inside_a_scope_that_is_going_back_sees_the_scopes_failure() -> None:
    """Rule 4."""

    @step
    def hold(wanted: TripWanted) -> HoldRoom:
        return HoldRoom(trip=wanted.trip)

    @hold.undo
    def free(held: RoomHeld, failure: Failure) -> FreeRoom:
        return FreeRoom(room=failure.reason)

    saga = Saga("inject_inner", version=1, starts_on=TripWanted, flow=[scope(hold, hold_car).on_failed(), note])
    given(saga, WANTED, replied(hold, RoomHeld(room="R"))).when(refused(hold_car, "no car")).then(
        asked(FreeRoom(room="no car")), asked(NOTE)
    )
