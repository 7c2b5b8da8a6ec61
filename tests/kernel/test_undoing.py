"""Rules 18-22: one undo at a time, undos that are stuck, the failure path."""

from __future__ import annotations

from datetime import timedelta

from orchestrator import (
    Failure,
    Retry,
    Saga,
    compute,
    fail,
    for_each,
    parallel,
    pivot,
    publish,
    scope,
    step,
    when,
)
from orchestrator.testing import (
    APPROVE,
    REJECT,
    answered_late,
    asked,
    cancelled,
    compensated,
    decided,
    denied,
    elapsed,
    ended,
    given,
    opened,
    operated,
    published,
    refused,
    replied,
    stuck,
    unanswered,
    undo_errored,
    undo_refused,
    undone,
)
from tests.kernel.trips import (
    CAR,
    FREE_CAR,
    FREE_ROOM,
    FREE_SEAT,
    NOTE,
    NOTED,
    ROOM,
    SEAT,
    WANTED,
    FreeRoom,
    HoldRoom,
    RoomHeld,
    TripFailed,
    TripWanted,
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
    undone_in,
)

THREE = Saga("undo_three", version=1, starts_on=TripWanted, flow=[hold_room, hold_car, hold_seat])
PIVOT = Saga("undo_pivot", version=1, starts_on=TripWanted, flow=[hold_room, pivot(charge), send_ticket])
SIDE = Saga("undo_side", version=1, starts_on=TripWanted, flow=[hold_room, parallel(hold_car, hold_seat), fail("no")])
TOLD = Saga(
    "undo_told",
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


def test_undos_run_one_at_a_time() -> None:
    """Rule 18."""
    spec = given(THREE, WANTED, ROOM, CAR, refused(hold_seat), answer_undos=False)
    assert undone_in(spec) == ["hold_car"]
    spec.when(elapsed(seconds=5)).then_nothing()
    spec.when(undone(hold_car)).then(asked(FREE_ROOM))
    spec.when(undone(hold_room)).then(compensated("refused"))


def test_an_undo_has_its_own_policy() -> None:
    """Rule 18: it is asked again, then stuck."""
    spec = given(THREE, WANTED, ROOM, CAR, refused(hold_seat), answer_undos=False)
    spec.when(unanswered(hold_car)).then(stuck(hold_car, "undo"))
    assert len(keys(spec, "undo")) == 3


def test_a_stuck_undo_holds_back_what_lies_before_it_on_its_own_path() -> None:
    """Rule 18."""
    spec = given(THREE, WANTED, ROOM, CAR, refused(hold_seat), answer_undos=False)
    spec.when(undo_refused(hold_car, "gone")).then(stuck(hold_car, "refused"))
    spec.when(elapsed(days=1)).then_nothing()
    assert undone_in(spec) == ["hold_car"]


def test_a_stuck_undo_of_one_branch_does_not_hold_the_other() -> None:
    """Rule 18: else one refused refund of a thousand holds the other 999."""
    spec = given(SIDE, WANTED, ROOM, CAR, answer_undos=False).when(SEAT).then(asked(FREE_SEAT))
    spec.when(undo_refused(hold_seat)).then(stuck(hold_seat), asked(FREE_CAR))
    spec.when(undone(hold_car)).then_nothing()
    assert "hold_room" not in undone_in(spec), "what came before both is held back"


def test_a_stuck_undo_of_one_item_does_not_hold_the_others() -> None:
    """Rule 18."""
    saga = Saga(
        "undo_items2", version=1, starts_on=TripWanted, flow=[for_each(stops, hold_stop, at_once=3), fail("no")]
    )
    spec = given(saga, TripWanted(trip="t-1", stops=3), answer_undos=False)
    spec.when(*(replied(hold_stop, RoomHeld(room=f"R{item}"), at=item) for item in range(3)))
    spec.when(undo_refused(hold_stop, at=2)).then(stuck(hold_stop, at=2), asked(FreeRoom(room="R1")))
    spec.when(undone(hold_stop, at=1)).then(asked(FreeRoom(room="R0")))


def test_a_retry_of_a_stuck_undo_waits_for_its_turn() -> None:
    """Rule 18: else two undos run at once."""
    spec = given(SIDE, WANTED, ROOM, CAR, SEAT, answer_undos=False).when(undo_refused(hold_seat))
    spec.when(operated("retry", hold_seat)).then_nothing()
    spec.when(undone(hold_car)).then(asked(FREE_SEAT))
    spec.when(undone(hold_seat)).then(asked(FREE_ROOM))


def test_a_refused_undo_is_stuck_and_its_retry_is_a_new_undo_round() -> None:
    """Rule 19."""
    spec = given(THREE, WANTED, ROOM, refused(hold_car), answer_undos=False)
    spec.when(undo_refused(hold_room, "not by us")).then(stuck(hold_room, "refused"))
    spec.when(operated("retry", hold_room)).then(asked(FREE_ROOM))
    first, second = keys(spec, "undo")
    assert first != second
    spec.when(undone(hold_room)).then(compensated("refused"))


def test_an_undo_that_ran_out_of_attempts_is_asked_again_under_its_key() -> None:
    """Rule 19, rule 4: unknown, so no new round."""
    spec = given(THREE, WANTED, ROOM, refused(hold_car), unanswered(hold_room), answer_undos=False)
    spec.when(operated("retry", hold_room)).then(asked(FREE_ROOM))
    assert len(set(keys(spec, "undo"))) == 1
    assert len(keys(spec, "undo")) == 4


def test_an_undo_never_becomes_done_by_giving_up() -> None:
    """Rule 19."""
    spec = given(THREE, WANTED, ROOM, refused(hold_car), unanswered(hold_room), answer_undos=False)
    spec.when(elapsed(days=30)).then_nothing()
    assert spec.state.phase == "compensating"


def test_a_late_ok_of_a_stuck_undo_counts() -> None:
    """Rule 11: nothing definite is dropped, also when the saga is stuck."""
    spec = given(THREE, WANTED, ROOM, refused(hold_car), unanswered(hold_room), answer_undos=False)
    spec.when(answered_late(undone(hold_room))).then(compensated("refused"))
    assert spec.state.stuck == {}


def test_a_late_error_of_an_undo_does_not_burn_the_next_attempt() -> None:
    """Rule 8, for undos."""
    spec = given(THREE, WANTED, ROOM, refused(hold_car), answer_undos=False).when(elapsed(seconds=31))
    before = types(spec)
    assert spec.state.activities["hold_room"].undo is not None
    spec.when(answered_late(undo_errored(hold_room), attempt=1)).then_nothing()
    assert [t for t in types(spec) if t == "undo.failed"] == [t for t in before if t == "undo.failed"]


def test_an_undo_answered_twice_is_undone_once() -> None:
    """Rule 11."""
    spec = given(THREE, WANTED, ROOM, CAR, refused(hold_seat), answer_undos=False).when(undone(hold_car))
    spec.when(answered_late(undone(hold_car))).then_nothing()
    assert types(spec)[-1] == "reply.late"
    assert len(of(spec, "undo.succeeded")) == 1


def test_an_undo_function_that_raises_is_stuck_and_can_be_retried() -> None:
    """Rule 12, rule 19."""
    code = {"broken": True}

    @step
    def hold(wanted: TripWanted) -> HoldRoom:
        return HoldRoom(trip=wanted.trip)

    @hold.undo
    def free(held: RoomHeld) -> FreeRoom:
        if code["broken"]:
            raise RuntimeError("not deployed yet")
        return FreeRoom(room=held.room)

    saga = Saga("undo_raises", version=1, starts_on=TripWanted, flow=[hold, fail("no")])
    spec = given(saga, WANTED).when(replied(hold, RoomHeld(room="R"))).then(stuck(hold, "function"))
    code["broken"] = False
    spec.when(operated("retry", hold)).then(asked(FREE_ROOM), compensated("no"))


def test_refused_and_never_attempted_steps_are_not_undone() -> None:
    """Rule 21."""
    spec = given(THREE, WANTED, ROOM).when(refused(hold_car)).then(asked(FREE_ROOM), compensated("refused"))
    assert undone_in(spec) == ["hold_room"]


def test_a_step_without_undo_is_not_in_the_plan() -> None:
    """Rule 17, rule 21."""
    saga = Saga("undo_plain", version=1, starts_on=TripWanted, flow=[hold_room, note, fail("no")])
    given(saga, WANTED, ROOM).when(NOTED).then(asked(FREE_ROOM), compensated("no"))


def test_the_failure_path_runs_after_the_last_undo_and_then_the_saga_ends() -> None:
    """Rule 22, S11."""
    spec = given(TOLD, WANTED, ROOM, refused(hold_car, "none"), answer_undos=False).when(undone(hold_room))
    spec.then(published(TripFailed(trip="t-1", reason="refused: none")), asked(NOTE))
    assert spec.state.phase == "on_failed"
    spec.when(NOTED).then(compensated("none"))


def test_activities_of_the_failure_path_are_never_undone() -> None:
    """S11."""
    spec = given(TOLD, WANTED, ROOM, refused(hold_car)).when(NOTED).then(compensated("refused"))
    assert undone_in(spec) == ["hold_room"]


def test_a_failure_on_the_failure_path_sticks() -> None:
    """S11: there is nothing further out to fail into."""
    spec = given(TOLD, WANTED, ROOM, refused(hold_car)).when(refused(note, "closed")).then(stuck(note, "refused"))
    spec.when(operated("retry", note)).then(asked(NOTE))
    spec.when(NOTED).then(compensated("refused"))


def test_the_failure_path_cannot_be_cancelled() -> None:
    """S11."""
    given(TOLD, WANTED, ROOM, refused(hold_car)).when(CANCEL).then(denied("already_turning"))


def test_the_reason_of_a_failure_may_be_a_function() -> None:
    """fail(fn)."""

    def why(wanted: TripWanted) -> str:
        return f"trip {wanted.trip} is cursed"

    saga = Saga("undo_why", version=1, starts_on=TripWanted, flow=[fail(why)])
    given(saga, WANTED).then(compensated("trip t-1 is cursed"))


def test_a_failure_names_the_step_and_the_kind() -> None:
    """Failure is what an author's failure path sees."""
    seen = []

    def tell(wanted: TripWanted, failure: Failure) -> TripFailed:
        seen.append((failure.step, failure.kind, failure.reason))
        return TripFailed(trip=wanted.trip, reason=failure.reason)

    saga = Saga("undo_seen", version=1, starts_on=TripWanted, flow=[hold_room], on_failed=publish(tell))
    given(saga, WANTED).when(refused(hold_room, "full"))
    assert set(seen) == {("hold_room", "refused", "full")}


def test_a_rejected_task_without_a_path_turns_the_saga_back() -> None:
    """Rule 16."""
    saga = Saga("undo_task", version=1, starts_on=TripWanted, flow=[hold_room, approve])
    given(saga, WANTED).when(ROOM).then(opened(approve)).when(decided(approve, REJECT, by="max", reason="dear")).then(
        asked(FREE_ROOM), compensated("rejected by max: dear")
    )
    given(saga, WANTED, ROOM).when(decided(approve, APPROVE, by="max")).then(ended())


def test_a_branch_that_is_not_taken_is_not_undone() -> None:
    """Rule 21."""

    def quick(wanted: TripWanted) -> bool:
        return wanted.quick

    saga = Saga(
        "undo_branch", version=1, starts_on=TripWanted, flow=[when(quick, hold_room).otherwise(hold_car), fail("no")]
    )
    given(saga, WANTED).when(CAR).then(asked(FREE_CAR), compensated("no"))
    given(saga, TripWanted(trip="t-1", quick=True)).when(ROOM).then(asked(FREE_ROOM), compensated("no"))


def test_an_undo_policy_is_written_at_the_undo() -> None:
    """Rule 18: each with its own policy."""

    @step
    def hold(wanted: TripWanted) -> HoldRoom:
        return HoldRoom(trip=wanted.trip)

    @hold.undo(retry=Retry(attempts=5), within=timedelta(minutes=10))
    def free(held: RoomHeld) -> FreeRoom:
        return FreeRoom(room=held.room)

    saga = Saga("undo_policy", version=1, starts_on=TripWanted, flow=[hold, fail("no")])
    spec = given(saga, WANTED, replied(hold, RoomHeld(room="R")), answer_undos=False)
    spec.when(elapsed(minutes=9)).then_nothing()
    assert len(keys(spec, "undo")) == 1
    spec.when(unanswered(hold)).then(stuck(hold, "undo"))
    assert len(keys(spec, "undo")) == 5


def test_values_that_were_computed_stay_on_the_failure_path() -> None:
    """Only what was done is undone."""

    def length(wanted: TripWanted) -> int:
        return len(wanted.trip)

    def tell(wanted: TripWanted, length: int | None, failure: Failure) -> TripFailed:
        return TripFailed(trip=wanted.trip, reason=f"{length} {failure.reason}")

    saga = Saga(
        "undo_value", version=1, starts_on=TripWanted, flow=[compute(length), fail("no")], on_failed=publish(tell)
    )
    given(saga, WANTED).then(published(TripFailed(trip="t-1", reason="3 no")), compensated("no"))


def test_an_undo_in_flight_when_the_saga_turns_back_is_waited_for_and_not_planned_twice() -> None:
    """Rule 18: asked for by a scope that was going back."""
    saga = Saga(
        "undo_flight", version=1, starts_on=TripWanted, flow=[hold_car, scope(hold_room, hold_seat).on_failed(), note]
    )
    spec = given(saga, WANTED, CAR, ROOM, answer_undos=False).when(refused(hold_seat)).then(asked(FREE_ROOM))
    spec.when(CANCEL).then_nothing()
    assert spec.undo_plan() == ["hold_car"]
    spec.when(undone(hold_room)).then(asked(FREE_CAR))
    spec.when(undone(hold_car)).then(compensated(ENOUGH))
    assert undone_in(spec) == ["hold_room.scope/hold_room", "hold_car"]
