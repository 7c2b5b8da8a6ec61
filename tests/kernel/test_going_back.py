"""Rules 16, 17, 20: turning back, before and after the pivot, and the plan."""

from __future__ import annotations

from datetime import timedelta

from orchestrator import (
    Context,
    Saga,
    delay,
    fail,
    for_each,
    parallel,
    pivot,
    repeat,
    step,
    wait_for,
)
from orchestrator.testing import (
    asked,
    cancelled,
    compensated,
    denied,
    elapsed,
    ended,
    given,
    operated,
    published,
    refused,
    replied,
    settled_done,
    settled_not_done,
    settling,
    stuck,
    unanswered,
)
from tests.kernel.trips import (
    CAR,
    CHARGED,
    FREE_CAR,
    FREE_ROOM,
    FREE_SEAT,
    HOLD_CAR,
    ROOM,
    SEAT,
    SEND_TICKET,
    TICKET,
    WANTED,
    Charged,
    FreeRoom,
    HoldRoom,
    Noted,
    RoomHeld,
    SeatHeld,
    TripFailed,
    TripWanted,
    TripWithdrawn,
    approve,
    charge,
    hold_car,
    hold_room,
    hold_seat,
    keys,
    note,
    of,
    send_ticket,
    telling_failure,
    types,
)

THREE = Saga("back_three", version=1, starts_on=TripWanted, flow=[hold_room, hold_car, hold_seat])
PIVOT = Saga("back_pivot", version=1, starts_on=TripWanted, flow=[hold_room, pivot(charge), send_ticket])
SIDE = Saga("back_side", version=1, starts_on=TripWanted, flow=[hold_room, parallel(hold_car, hold_seat), fail("no")])
TOLD = Saga(
    "back_told",
    version=1,
    starts_on=TripWanted,
    flow=[hold_room, hold_car],
    on_failed=[telling_failure, note],
)
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


EACH_STOP = for_each(stops, hold_stop, at_once=3)


def test_a_refusal_without_a_path_turns_the_saga_back() -> None:
    """Rule 16c."""
    given(THREE, WANTED, ROOM, CAR).when(refused(hold_seat, "full")).then(
        asked(FREE_CAR), asked(FREE_ROOM), compensated("full")
    )


def test_the_record_of_turning_back_says_why_and_what_is_withdrawn() -> None:
    """Rule 16c: open tasks, waits and delays go in this record."""
    saga = Saga(
        "back_withdrawn",
        version=1,
        starts_on=TripWanted,
        flow=[parallel(approve, wait_for(TripWithdrawn, within=timedelta(days=1)), delay(timedelta(days=2)))],
    )
    spec = given(saga, WANTED).when(CANCEL).then(compensated(ENOUGH))
    [turned] = of(spec, "compensation.started")
    assert turned.data["failure"]["kind"] == "cancelled"
    withdrawn = {key.rpartition("/")[2] for key in turned.data["withdrawn"]}
    assert {"approve", "trip_withdrawn", "delay"} <= withdrawn
    main = spec.world.main
    assert (main.timers, main.subscriptions, main.tasks) == ({}, [], {})


def test_every_unknown_step_is_fenced_newest_first() -> None:
    """Rule 16c."""
    spec = given(SIDE, WANTED, ROOM).when(CANCEL).then(settling(hold_seat), settling(hold_car))
    spec.when(settled_not_done(hold_car), settled_not_done(hold_seat)).then(asked(FREE_ROOM), compensated(ENOUGH))


def test_a_step_between_two_attempts_is_fenced_too() -> None:
    """Rule 16c: in backoff its outcome is as unknown as ever."""
    spec = given(THREE, WANTED, ROOM).when(elapsed(seconds=30))
    assert spec.state.activities["hold_car"].status == "backoff"
    spec.when(CANCEL).then(settling(hold_car))


def test_after_the_pivot_a_cancel_is_refused_and_recorded() -> None:
    """Rule 16a."""
    spec = given(PIVOT, WANTED, ROOM, CHARGED).when(CANCEL).then(denied("cancel_refused"))
    assert types(spec)[-1] == "cancel.refused"
    spec.when(TICKET).then(ended())


def test_after_the_pivot_a_refusal_makes_its_place_stuck_and_undoes_nothing() -> None:
    """Rule 16a: only forward is left."""
    spec = given(PIVOT, WANTED, ROOM, CHARGED).when(refused(send_ticket, "no paper")).then(stuck(send_ticket))
    assert spec.undo_plan() == []
    assert keys(spec, "undo") == []


def test_a_forward_only_saga_behaves_as_if_the_pivot_had_passed_at_the_start() -> None:
    """Rule 16a."""
    spec = given(THREE, WANTED, ROOM, forward_only=True).when(CANCEL).then(denied("cancel_refused"))
    spec.when(refused(hold_car)).then(stuck(hold_car, "refused"))
    assert spec.undo_plan() == []
    spec.when(operated("retry", hold_car)).then(asked(HOLD_CAR))


def test_a_cancel_while_the_pivot_is_in_flight_settles_it_first() -> None:
    """Rule 16b."""
    spec = given(PIVOT, WANTED, ROOM).when(CANCEL).then(settling(charge))
    assert types(spec)[-2:] == ["saga.failing", "fence.requested"]
    spec.when(settled_not_done(charge)).then(asked(FREE_ROOM), compensated(ENOUGH))


def test_a_cancel_that_meets_a_pivot_that_was_done_is_refused_and_the_saga_goes_on() -> None:
    """Rule 16b."""
    spec = given(PIVOT, WANTED, ROOM, CANCEL)
    spec.when(settled_done(charge, Charged(receipt="B"))).then(asked(SEND_TICKET))
    assert "cancel.refused" in types(spec)
    assert spec.state.pending is None


def test_a_pivot_that_answers_by_itself_while_it_is_settled_counts() -> None:
    """Rule 8, rule 16b."""
    given(PIVOT, WANTED, ROOM, CANCEL).when(CHARGED).then(asked(SEND_TICKET))


def test_a_pivot_that_is_refused_while_a_cancel_waits_turns_back_with_the_cancels_reason() -> None:
    """Rule 16b, rule 20: an accepted cancel is never forgotten."""
    given(PIVOT, WANTED, ROOM, CANCEL).when(refused(charge, "no money")).then(asked(FREE_ROOM), compensated(ENOUGH))


def test_a_pivot_whose_outcome_is_never_known_keeps_the_cancel_waiting() -> None:
    """Rule 20."""
    spec = given(PIVOT, WANTED, ROOM, CANCEL).when(unanswered(charge)).then(stuck(charge, "unknown"))
    spec.when(elapsed(days=9)).then_nothing()
    spec.when(operated("retry", charge)).then(settling(charge))
    spec.when(settled_not_done(charge)).then(asked(FREE_ROOM), compensated(ENOUGH))


def test_a_second_cancel_is_refused() -> None:
    """Rule 20."""
    given(PIVOT, WANTED, ROOM, CANCEL).when(CANCEL).then(denied("already_turning"))
    given(THREE, WANTED, ROOM, CANCEL).when(CANCEL).then(denied("already_turning"))


def test_a_cancel_after_the_end_is_refused() -> None:
    """Rule 20, V10."""
    given(THREE, WANTED, ROOM, CAR, SEAT).when(CANCEL).then(denied("ended"))
    given(THREE, WANTED, refused(hold_room)).when(CANCEL).then(denied("ended"))


def test_compensation_starts_once() -> None:
    """Rule 20: two branches fail, one after the other."""
    spec = given(SIDE, WANTED, ROOM).when(refused(hold_car), refused(hold_seat))
    assert len(of(spec, "compensation.started")) == 1
    assert len(of(spec, "undo.planned")) == 1


def test_the_plan_is_made_only_when_every_undoable_outcome_is_known() -> None:
    """Rule 17."""
    spec = given(SIDE, WANTED, ROOM, refused(hold_car)).when(elapsed(seconds=5)).then_nothing()
    assert of(spec, "undo.planned") == []
    spec.when(settled_done(hold_seat, SeatHeld(seat="S"))).then(
        asked(FREE_SEAT), asked(FREE_ROOM), compensated("refused")
    )


def test_a_step_without_undo_holds_the_end_and_not_the_plan() -> None:
    """Rule 17."""
    saga = Saga("back_note", version=1, starts_on=TripWanted, flow=[hold_room, note], on_failed=telling_failure)
    spec = given(saga, WANTED, ROOM).when(CANCEL).then(settling(note), asked(FREE_ROOM))
    spec.when(unanswered(note)).then(stuck(note, "unknown"))
    spec.when(operated("retry", note)).then(settling(note))
    spec.when(settled_done(note, Noted())).then(
        published(TripFailed(trip="t-1", reason=f"cancelled: {ENOUGH}")), compensated(ENOUGH)
    )


def test_the_plan_is_the_order_of_completion_backwards_across_branches() -> None:
    """Rule 17: not the order of the flow."""
    for first, second, expected in [(CAR, SEAT, (FREE_SEAT, FREE_CAR)), (SEAT, CAR, (FREE_CAR, FREE_SEAT))]:
        given(SIDE, WANTED, ROOM, first).when(second).then(
            asked(expected[0]), asked(expected[1]), asked(FREE_ROOM), compensated("no")
        )


def test_the_plan_goes_backwards_across_items() -> None:
    """Rule 17: items by completion, not by number."""
    saga = Saga("back_items", version=1, starts_on=TripWanted, flow=[EACH_STOP, fail("no")])
    spec = given(saga, TripWanted(trip="t-1", stops=3))
    for item in (1, 0, 2):
        spec.when(replied(hold_stop, RoomHeld(room=f"R{item}"), at=item))
    spec.then(asked(FreeRoom(room="R2")), asked(FreeRoom(room="R0")), asked(FreeRoom(room="R1")), compensated("no"))


def test_the_plan_goes_backwards_across_rounds() -> None:
    """Rule 17."""

    @step
    def hold_round(context: Context) -> HoldRoom:
        return HoldRoom(trip=f"round {context.iteration[0]}")

    @hold_round.undo
    def free_round(held: RoomHeld) -> FreeRoom:
        return FreeRoom(room=held.room)

    saga = Saga("back_rounds", version=1, starts_on=TripWanted, flow=[repeat(hold_round, at_most=3)])
    spec = given(saga, WANTED)
    for number in range(3):
        spec.when(replied(hold_round, RoomHeld(room=f"R{number}")))
    assert [out.text for out in spec.outputs if out.kind == "asked"] == [
        f"asked(FreeRoom(room='R{number}'), at={number})" for number in (2, 1, 0)
    ]


def test_the_plan_is_recorded_and_can_be_read_before_it_is_made() -> None:
    """Rule 17."""
    spec = given(THREE, WANTED, ROOM, CAR)
    assert spec.undo_plan() == ["hold_car", "hold_room"]
    spec.when(refused(hold_seat))
    assert of(spec, "undo.planned")[0].data["plan"] == ["hold_car", "hold_room"]
