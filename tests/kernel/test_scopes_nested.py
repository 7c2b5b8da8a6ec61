"""S5a, S6, S8: scopes in scopes, what they keep, and results of parts that were taken back."""

from __future__ import annotations

from orchestrator import (
    Decision,
    Saga,
    compute,
    fail,
    for_each,
    keep,
    parallel,
    publish,
    repeat,
    scope,
    step,
)
from orchestrator.testing import (
    APPROVE,
    answered_late,
    arrived,
    asked,
    cancelled,
    compensated,
    decided,
    ended,
    given,
    opened,
    operated,
    published,
    refused,
    replied,
    settling,
    stuck,
    undo_refused,
    undone,
)
from tests.kernel.trips import (
    CAR,
    FREE_CAR,
    FREE_ROOM,
    FREE_SEAT,
    HOLD_CAR,
    NOTE,
    NOTED,
    ROOM,
    SEAT,
    WANTED,
    FreeRoom,
    HoldRoom,
    Noted,
    RoomHeld,
    TripChanged,
    TripFailed,
    TripWanted,
    TripWithdrawn,
    approve,
    hold_car,
    hold_room,
    hold_seat,
    note,
    of,
    undone_in,
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


# --- S5a: keep


def test_kept_work_of_an_item_is_not_undone_and_other_items_are() -> None:
    """S5a: inside an item."""
    flow = [for_each(stops, hold_stop, keep(), hold_seat, at_once=2)]
    saga = Saga("nested_items", version=1, starts_on=TripWanted, flow=flow)
    spec = given(saga, TripWanted(trip="t-1", stops=2)).when(replied(hold_stop, RoomHeld(room="R0"), at=0))
    spec.when(refused(hold_seat, at=0)).then(settling(hold_stop, at=1))
    spec.when(replied(hold_stop, RoomHeld(room="R1"), at=1)).then(asked(FreeRoom(room="R1")), compensated("refused"))


def test_keep_does_not_reach_into_a_nested_scope_that_is_going_back() -> None:
    """S5a."""
    inner = scope(hold_seat, fail("no")).on_failed()
    body = scope(parallel([inner], [hold_car, keep()])).on_event(TripWithdrawn)
    saga = Saga("nested_keep", version=1, starts_on=TripWanted, flow=[body, fail("later")])
    spec = given(saga, WANTED, answer_undos=False).when(SEAT).then(asked(FREE_SEAT))
    spec.when(CAR).then_nothing()
    kept = of(spec, "scope.kept")[0].data["kept"]
    assert [key.rpartition("/")[2] for key in kept] == ["hold_car"]
    spec.when(undone(hold_seat)).then(compensated("later"))


# --- S6: what a scope has taken back is gone


def tell(wanted: TripWanted, room: RoomHeld | None, noted: Noted | None, length: int | None) -> TripFailed:
    return TripFailed(trip=wanted.trip, reason=f"room {room is not None}, noted {noted is not None}, length {length}")


def length(wanted: TripWanted) -> int:
    return len(wanted.trip)


def test_after_a_scope_was_undone_its_results_are_gone_and_computed_values_stay() -> None:
    """S6: also results of steps that have no undo."""
    body = scope(compute(length), hold_room, note, fail("no")).on_failed(publish(tell))
    saga = Saga("nested_gone", version=1, starts_on=TripWanted, flow=[body])
    given(saga, WANTED, ROOM).when(NOTED).then(
        asked(FREE_ROOM), published(TripFailed(trip="t-1", reason="room False, noted False, length 3")), ended()
    )


def test_results_of_an_undone_scope_are_in_no_list() -> None:
    """S6."""

    def count(rooms: list[RoomHeld], decisions: list[Decision]) -> int:
        return len(rooms) + 10 * len(decisions)

    def report(wanted: TripWanted, count: int) -> TripFailed:
        return TripFailed(trip=wanted.trip, reason=f"{count}")

    body = scope(approve, hold_room, hold_seat).on_failed()
    flow = [repeat(body, at_most=2).otherwise(), compute(count), publish(report)]
    saga = Saga("nested_lists", version=1, starts_on=TripWanted, flow=flow)
    approved = decided(approve, APPROVE, by="max")
    spec = given(saga, WANTED, approved, ROOM).when(refused(hold_seat)).then(asked(FREE_ROOM), opened(approve, at=1))
    spec.when(approved, ROOM, SEAT)
    assert published(TripFailed(trip="t-1", reason="11")).fits(spec.outputs[-2])


def test_what_a_scope_has_taken_back_is_never_undone_again() -> None:
    """S6, rule 18."""
    flow = [scope(hold_room, hold_seat).on_failed(), fail("later")]
    saga = Saga("nested_once", version=1, starts_on=TripWanted, flow=flow)
    spec = given(saga, WANTED, ROOM).when(refused(hold_seat)).then(asked(FREE_ROOM), compensated("later"))
    assert undone_in(spec) == ["hold_room.scope/hold_room"]


def test_an_undo_that_was_skipped_lets_the_handler_run_and_is_not_asked_again() -> None:
    """S6: with the effect still there, by that operator's record."""
    flow = [scope(hold_room, hold_seat).on_failed(note), fail("no")]
    saga = Saga("nested_skipped", version=1, starts_on=TripWanted, flow=flow)
    spec = given(saga, WANTED, ROOM, refused(hold_seat), undo_refused(hold_room), answer_undos=False)
    spec.when(operated("take_over", hold_room))
    spec.when(operated("skip", hold_room)).then(asked(NOTE))
    spec.when(NOTED).then(compensated("no"))
    assert undone_in(spec) == ["hold_room.scope/hold_room"]


# --- S8: outer over inner


def inner_going_back(name: str) -> Saga[TripWanted]:
    """A scope in a scope; the inner one goes back when the seat is refused."""
    inner = scope(hold_room, hold_car, hold_seat).on_failed(note)
    return Saga(name, version=1, starts_on=TripWanted, flow=[scope(inner).on_event(TripWithdrawn, note.named("told"))])


def test_an_outer_interruption_lets_the_inner_scope_finish_its_plan_without_its_handler() -> None:
    """S8."""
    spec = given(inner_going_back("nested_outer"), WANTED, ROOM, CAR, refused(hold_seat), answer_undos=False)
    spec.when(WITHDRAWN).then_nothing()
    spec.when(undone(hold_car)).then(asked(FREE_ROOM))
    spec.when(undone(hold_room)).then(asked(NOTE))
    assert of(spec, "step.requested")[-1].activity.endswith("/told")


def test_an_outer_interruption_waits_for_an_inner_undo_that_is_stuck() -> None:
    """S8: the inner finishes its plan."""
    spec = given(inner_going_back("nested_stuck"), WANTED, ROOM, CAR, refused(hold_seat), answer_undos=False)
    spec.when(undo_refused(hold_car)).then(stuck(hold_car, "refused"))
    spec.when(WITHDRAWN).then_nothing()
    spec.when(operated("retry", hold_car)).then(asked(FREE_CAR))
    spec.when(undone(hold_car)).then(asked(FREE_ROOM))
    spec.when(undone(hold_room)).then(asked(NOTE))


def test_a_failure_of_the_saga_drops_inner_plans_and_waits_for_the_undo_in_flight() -> None:
    """S8: the rest joins the outer plan."""
    spec = given(inner_going_back("nested_saga"), WANTED, ROOM, CAR, refused(hold_seat), answer_undos=False)
    spec.when(CANCEL).then_nothing()
    assert spec.state.scopes == {}
    spec.when(undone(hold_car)).then(asked(FREE_ROOM))
    spec.when(undone(hold_room)).then(compensated(ENOUGH))
    assert len(undone_in(spec)) == 2


def test_an_undo_that_was_stuck_joins_the_outer_plan_and_is_asked_again() -> None:
    """S8."""
    spec = given(inner_going_back("nested_again"), WANTED, ROOM, CAR, refused(hold_seat), answer_undos=False)
    spec.when(undo_refused(hold_car)).then(stuck(hold_car))
    spec.when(CANCEL).then(asked(FREE_CAR))
    assert spec.state.stuck == {}
    spec.when(undone(hold_car)).then(asked(FREE_ROOM))


def test_a_late_refusal_of_a_carried_over_undo_makes_nothing_stuck() -> None:
    """S8: unless it is in flight now."""
    spec = given(inner_going_back("nested_late"), WANTED, ROOM, CAR, refused(hold_seat), answer_undos=False)
    spec.when(CANCEL).when(undone(hold_car)).then(asked(FREE_ROOM))
    spec.when(answered_late(undo_refused(hold_car))).then_nothing()
    assert spec.state.stuck == {}
    spec.when(undone(hold_room)).then(compensated(ENOUGH))


def test_an_outer_failure_takes_the_inner_plan_over() -> None:
    """S8: a failure of the outer scope, not of the saga."""
    inner = scope(hold_room, hold_seat).on_failed()
    outer = scope(parallel([inner], [note])).on_failed(hold_car)
    saga = Saga("nested_over", version=1, starts_on=TripWanted, flow=[outer])
    spec = given(saga, WANTED, ROOM, refused(hold_seat), answer_undos=False)
    spec.when(refused(note)).then_nothing()
    spec.when(undone(hold_room)).then(asked(HOLD_CAR))
    assert len(undone_in(spec)) == 1
