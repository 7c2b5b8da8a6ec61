"""S1-S7: scopes that are left, interrupted or going back, and what closing does to what is inside."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator import Failure, Saga, compute, delay, end, fail, keep, parallel, pivot, publish, scope, when
from orchestrator.kernel.api import advance
from orchestrator.kernel.inputs import TimerDue
from orchestrator.testing import (
    APPROVE,
    answered_late,
    arrived,
    asked,
    cancelled,
    compensated,
    decided,
    elapsed,
    ended,
    given,
    opened,
    operated,
    published,
    refused,
    settled_done,
    settled_not_done,
    settling,
    stuck,
    unanswered,
    undo_refused,
    undone,
)
from tests.kernel.trips import (
    CAR,
    CHARGE,
    CHARGED,
    FREE_CAR,
    FREE_ROOM,
    FREE_SEAT,
    HOLD_CAR,
    HOLD_ROOM,
    NOTE,
    NOTED,
    ROOM,
    SEAT,
    WANTED,
    RoomHeld,
    SeatHeld,
    TripChanged,
    TripFailed,
    TripWanted,
    TripWithdrawn,
    approve,
    charge,
    hold_car,
    hold_room,
    hold_seat,
    note,
    of,
    types,
    undone_in,
)

WITHDRAWN = arrived(TripWithdrawn(trip="t-1"))
CHANGED = arrived(TripChanged(trip="t-1"))
ENOUGH = "cancelled by ann: enough"
CANCEL = cancelled("ann", "enough")

# The room is optional: whatever fails inside is taken back, and the saga goes on.
OPTIONAL = Saga(
    "scopes_optional", version=1, starts_on=TripWanted, flow=[scope(hold_room, hold_seat).on_failed(note), hold_car]
)
# The customer may withdraw while room and seat are reserved.
STOPPABLE = Saga(
    "scopes_stoppable",
    version=1,
    starts_on=TripWanted,
    flow=[scope(hold_room, hold_seat).on_event(TripWithdrawn, note), hold_car],
)
TIMED = Saga(
    "scopes_timed",
    version=1,
    starts_on=TripWanted,
    flow=[scope(hold_room, approve, within=timedelta(hours=1)).on_timeout(note), hold_car],
)


def test_a_scope_that_comes_to_its_end_is_left() -> None:
    """S1."""
    spec = given(STOPPABLE, WANTED, ROOM).when(SEAT).then(asked(HOLD_CAR))
    assert "scope.left" in types(spec)
    assert spec.state.scopes == {}
    assert spec.world.main.subscriptions == []


def test_each_entry_ends_in_exactly_one_way() -> None:
    """S1: what comes after the first committed record finds the scope gone."""
    spec = given(STOPPABLE, WANTED, ROOM, SEAT).when(WITHDRAWN).then_nothing()
    assert "scope.interrupted" not in types(spec)
    spec = given(TIMED, WANTED, ROOM, elapsed(hours=1)).when(NOTED).then(asked(HOLD_CAR))
    assert [t for t in types(spec) if t.startswith("scope.")] == ["scope.entered", "scope.interrupted", "scope.closed"]


def test_an_event_interrupts_a_scope_and_its_path_follows() -> None:
    """S1: nothing inside is unsettled."""
    saga = Saga(
        "scopes_waiting",
        version=1,
        starts_on=TripWanted,
        flow=[hold_room, scope(approve).on_event(TripWithdrawn, note)],
    )
    spec = given(saga, WANTED).when(ROOM).then(opened(approve)).when(WITHDRAWN).then(asked(NOTE))
    assert spec.undo_plan() == ["hold_room"], "an interruption by itself undoes nothing"
    spec.when(NOTED).then(ended())


def test_a_time_limit_interrupts_a_scope() -> None:
    """S1."""
    spec = given(TIMED, WANTED, ROOM).when(elapsed(minutes=59)).then_nothing()
    spec.when(elapsed(minutes=1)).then(asked(NOTE))
    assert spec.world.main.tasks == {}


def test_a_scope_that_was_left_in_time_has_no_timer_any_more() -> None:
    """S2: close keeps no timers."""
    spec = given(TIMED, WANTED, ROOM).when(decided(approve, APPROVE, by="max")).then(asked(HOLD_CAR))
    spec.when(CAR, elapsed(days=2))
    assert "scope.interrupted" not in types(spec)


def test_a_stale_timer_of_a_scope_changes_nothing() -> None:
    """Rule 5, S1."""
    spec = given(TIMED, WANTED)
    [key] = spec.state.scopes
    stale = TimerDue(key, spec.state.activities[key].armed)
    spec.when(ROOM, decided(approve, APPROVE, by="max"))
    turn = advance(TIMED.program, spec.state, stale, spec.world.clock + 10**12)
    assert turn.records == []


def test_closing_takes_tasks_waits_tokens_and_stuck_places_inside() -> None:
    """S2: one fold, and the record lists what is withdrawn."""

    def broken(wanted: TripWanted) -> int:
        raise RuntimeError("no")

    inside = scope(parallel(approve, [compute(broken)], delay(timedelta(days=1)))).on_event(TripWithdrawn, note)
    saga = Saga("scopes_takes", version=1, starts_on=TripWanted, flow=[inside, hold_car])
    spec = given(saga, WANTED).then(opened(approve), stuck(broken, "function"))
    spec.when(WITHDRAWN).then(asked(NOTE))
    [record] = of(spec, "scope.interrupted")
    assert {key.rpartition("/")[2] for key in record.data["withdrawn"]} >= {"approve", "delay"}
    assert spec.state.stuck == {}
    assert list(spec.world.main.timers) == [spec.records[-1].activity]
    spec.when(NOTED).then(asked(HOLD_CAR))


def test_closing_withdraws_nested_scopes_and_their_subscriptions() -> None:
    """S2: no subscription survives."""
    inner = scope(hold_room, approve).on_event(TripChanged, note)
    saga = Saga("scopes_nested", version=1, starts_on=TripWanted, flow=[scope(inner).on_event(TripWithdrawn), hold_car])
    spec = given(saga, WANTED, ROOM).when(WITHDRAWN).then(asked(HOLD_CAR))
    assert spec.world.main.subscriptions == []
    spec.when(CHANGED).then_nothing()


def test_every_unknown_step_inside_is_fenced_and_the_handler_waits() -> None:
    """S3, S4: newest first."""
    inside = scope(parallel(hold_room, hold_seat)).on_event(TripWithdrawn, note)
    saga = Saga("scopes_unknown", version=1, starts_on=TripWanted, flow=[inside, hold_car])
    spec = given(saga, WANTED).when(WITHDRAWN).then(settling(hold_seat), settling(hold_room))
    spec.when(settled_not_done(hold_seat)).then_nothing()
    spec.when(settled_done(hold_room, RoomHeld(room="R"))).then(asked(NOTE))


def test_a_step_without_undo_inside_is_fenced_too_before_the_handler_begins() -> None:
    """S3, rule 16c: else its queued command acts after the handler has begun."""
    saga = Saga(
        "scopes_note", version=1, starts_on=TripWanted, flow=[scope(note).on_event(TripWithdrawn, hold_room), hold_car]
    )
    spec = given(saga, WANTED).when(WITHDRAWN).then(settling(note))
    spec.when(settled_not_done(note)).then(asked(HOLD_ROOM))


def test_a_step_between_two_attempts_inside_is_fenced_too() -> None:
    """S3."""
    given(STOPPABLE, WANTED).when(elapsed(seconds=30), WITHDRAWN).then(settling(hold_room))


def test_what_settles_as_done_in_a_closing_scope_stays_done() -> None:
    """S4: and is in the plan if the saga fails later."""
    spec = given(STOPPABLE, WANTED, ROOM, WITHDRAWN)
    spec.when(settled_done(hold_seat, SeatHeld(seat="S"))).then(asked(NOTE))
    spec.when(NOTED).then(asked(HOLD_CAR)).when(refused(hold_car)).then(
        asked(FREE_SEAT), asked(FREE_ROOM), compensated("refused")
    )


def test_a_settlement_in_a_closing_scope_makes_no_token_and_fails_nothing() -> None:
    """S7."""
    spec = given(STOPPABLE, WANTED, WITHDRAWN).when(refused(hold_room)).then(asked(NOTE))
    assert spec.state.phase == "forward"
    spec = given(STOPPABLE, WANTED, WITHDRAWN).when(ROOM).then(asked(NOTE))
    assert "hold_seat.scope/hold_seat" not in spec.state.activities


def test_an_outcome_that_stays_unknown_holds_the_handler() -> None:
    """S4: nothing inside is stuck on its way back."""
    spec = given(STOPPABLE, WANTED, WITHDRAWN).when(unanswered(hold_room)).then(stuck(hold_room, "unknown"))
    spec.when(operated("retry", hold_room)).then(settling(hold_room))
    spec.when(settled_not_done(hold_room)).then(asked(NOTE))


def test_a_second_event_for_a_closing_scope_changes_nothing() -> None:
    """S1: never interrupted twice."""
    spec = given(STOPPABLE, WANTED, WITHDRAWN).when(arrived(TripWithdrawn(trip="t-1"), id="again")).then_nothing()
    assert len(of(spec, "scope.interrupted")) == 1


def test_a_failure_inside_takes_back_what_was_done_inside_and_goes_on() -> None:
    """S1: failing, undo planned, undone."""
    spec = given(OPTIONAL, WANTED, ROOM).when(refused(hold_seat)).then(asked(FREE_ROOM), asked(NOTE))
    kinds = [t for t in types(spec) if t.startswith("scope.")]
    assert kinds == ["scope.entered", "scope.failing", "scope.undo_planned", "scope.undone"]
    spec.when(NOTED).then(asked(HOLD_CAR)).when(CAR).then(ended())


def test_an_empty_failure_path_means_go_on_without_it() -> None:
    """authoring: scope(reserve_car).on_failed()."""
    saga = Saga("scopes_empty", version=1, starts_on=TripWanted, flow=[scope(hold_room).on_failed(), hold_car])
    given(saga, WANTED).when(refused(hold_room)).then(asked(HOLD_CAR))


def test_the_plan_of_a_scope_reaches_nothing_outside_it() -> None:
    """S1."""
    saga = Saga(
        "scopes_outside",
        version=1,
        starts_on=TripWanted,
        flow=[hold_car, scope(hold_room, hold_seat).on_failed(), note],
    )
    spec = given(saga, WANTED, CAR, ROOM).when(refused(hold_seat)).then(asked(FREE_ROOM), asked(NOTE))
    assert of(spec, "scope.undo_planned")[0].data["plan"] == ["hold_room.scope/hold_room"]
    assert spec.undo_plan() == ["hold_car"]


def test_a_scope_plans_only_when_everything_undoable_inside_is_known() -> None:
    """S4, rule 17."""
    inside = scope(hold_room, parallel(hold_seat, hold_car)).on_failed(note)
    saga = Saga("scopes_known", version=1, starts_on=TripWanted, flow=[inside])
    spec = given(saga, WANTED, ROOM).when(refused(hold_seat)).then(settling(hold_car))
    assert of(spec, "scope.undo_planned") == []
    spec.when(CAR).then(asked(FREE_CAR), asked(FREE_ROOM), asked(NOTE))


def test_undos_of_a_scope_run_backwards_and_one_at_a_time() -> None:
    """S1, rule 18."""
    inside = scope(hold_room, hold_seat, fail("no")).on_failed(note)
    saga = Saga("scopes_backwards", version=1, starts_on=TripWanted, flow=[inside])
    spec = given(saga, WANTED, ROOM, answer_undos=False).when(SEAT).then(asked(FREE_SEAT))
    spec.when(undone(hold_seat)).then(asked(FREE_ROOM))
    spec.when(undone(hold_room)).then(asked(NOTE))


def test_a_failure_goes_to_the_innermost_scope_that_has_a_path_for_it() -> None:
    """S5."""
    inner = scope(hold_seat, fail("no seat")).on_failed(note)
    saga = Saga("scopes_inner", version=1, starts_on=TripWanted, flow=[scope(hold_room, inner).on_failed(hold_car)])
    spec = given(saga, WANTED, ROOM).when(SEAT).then(asked(FREE_SEAT), asked(NOTE))
    spec.when(NOTED).then(ended())


def test_a_scope_without_a_path_for_failures_passes_them_on() -> None:
    """S5."""
    inner = scope(hold_seat, fail("no seat")).on_event(TripWithdrawn)
    saga = Saga("scopes_through", version=1, starts_on=TripWanted, flow=[scope(hold_room, inner).on_failed(note)])
    given(saga, WANTED, ROOM).when(SEAT).then(asked(FREE_SEAT), asked(FREE_ROOM), asked(NOTE))


@pytest.mark.parametrize("kind", ["on_failed", "on_event", "on_timeout"])
def test_a_failure_in_a_handler_goes_further_out(kind: str) -> None:
    """S5: otherwise a scope fails into itself for ever."""
    body = scope(hold_room, approve, within=timedelta(hours=1)).on_failed(note)
    if kind == "on_event":
        body = scope(hold_room, approve).on_event(TripWithdrawn, note).on_failed(hold_seat)
    elif kind == "on_timeout":
        body = scope(hold_room, approve, within=timedelta(hours=1)).on_timeout(note).on_failed(hold_seat)
    saga = Saga(f"scopes_handler_{kind}", version=1, starts_on=TripWanted, flow=[body])
    spec = given(saga, WANTED, ROOM)
    spec.when(WITHDRAWN if kind == "on_event" else elapsed(hours=1))
    spec.when(refused(note, "closed"))
    assert spec.state.phase == "compensated"
    assert spec.state.failure is not None
    assert spec.state.failure["reason"] == "closed"


def test_deadline_cancel_and_the_parents_undo_always_go_to_the_saga() -> None:
    """S5: a scope does not catch them."""
    spec = given(OPTIONAL, WANTED, ROOM).when(CANCEL).then(settling(hold_seat))
    assert spec.state.phase == "compensating"
    spec.when(settled_not_done(hold_seat)).then(asked(FREE_ROOM), compensated(ENOUGH))


def test_a_handler_that_is_nothing_but_fail_is_its_scopes_own_failure() -> None:
    """S5: scope.failing by the event."""
    body = scope(hold_room, approve).on_event(TripWithdrawn, fail("withdrawn")).on_failed(note)
    saga = Saga("scopes_own", version=1, starts_on=TripWanted, flow=[body, hold_car])
    spec = given(saga, WANTED, ROOM).when(WITHDRAWN).then(asked(FREE_ROOM), asked(NOTE))
    failing = of(spec, "scope.failing")[0].data
    assert (failing["by"], failing["failure"]["reason"]) == ("event", "withdrawn")
    spec.when(NOTED).then(asked(HOLD_CAR))


def test_the_reason_of_an_own_failure_may_use_the_event() -> None:
    """S5."""

    def why(changed: TripChanged) -> str:
        return f"changed: {changed.note}"

    def tell(wanted: TripWanted, failure: Failure) -> TripFailed:
        return TripFailed(trip=wanted.trip, reason=failure.reason)

    body = scope(hold_room, approve).on_event(TripChanged, fail(why)).on_failed(publish(tell))
    saga = Saga("scopes_why", version=1, starts_on=TripWanted, flow=[body])
    spec = given(saga, WANTED, ROOM).when(arrived(TripChanged(trip="t-1", note="two beds")))
    spec.then(asked(FREE_ROOM), published(TripFailed(trip="t-1", reason="changed: two beds")), ended())


def test_a_time_limit_without_a_path_is_the_failure_of_a_scope_that_has_one() -> None:
    """S5."""
    body = scope(hold_room, approve, within=timedelta(hours=1)).on_failed(note)
    saga = Saga("scopes_limit", version=1, starts_on=TripWanted, flow=[body])
    given(saga, WANTED, ROOM).when(elapsed(hours=1)).then(asked(FREE_ROOM), asked(NOTE))


def test_kept_work_of_a_scope_enters_no_plan_any_more() -> None:
    """S5a: its own point of no return."""
    body = scope(hold_room, keep(), hold_seat, fail("no")).on_failed(note)
    saga = Saga("scopes_keep", version=1, starts_on=TripWanted, flow=[hold_car, body, charge.without_undo()])
    spec = given(saga, WANTED, CAR, ROOM).when(SEAT).then(asked(FREE_SEAT), asked(NOTE))
    spec.when(NOTED).then(asked(CHARGE)).when(refused(charge)).then(asked(FREE_CAR), compensated("refused"))
    assert undone_in(spec) == ["hold_room.scope/hold_seat", "hold_car"]


def test_keep_reaches_only_its_own_scope() -> None:
    """S5a: what was done before the scope is still undone."""
    body = scope(hold_room, keep(), fail("no")).on_event(TripWithdrawn)
    saga = Saga("scopes_keep2", version=1, starts_on=TripWanted, flow=[hold_car, body])
    given(saga, WANTED, CAR).when(ROOM).then(asked(FREE_CAR), compensated("no"))


def test_an_undo_that_is_stuck_inside_holds_the_handler() -> None:
    """S4."""
    spec = given(OPTIONAL, WANTED, ROOM, refused(hold_seat), answer_undos=False)
    spec.when(undo_refused(hold_room)).then(stuck(hold_room, "refused"))
    spec.when(elapsed(days=1)).then_nothing()
    spec.when(operated("retry", hold_room)).then(asked(FREE_ROOM))
    spec.when(undone(hold_room)).then(asked(NOTE))


def test_a_late_answer_of_an_abandoned_step_is_recorded() -> None:
    """Rule 11, S7."""
    spec = given(STOPPABLE, WANTED, WITHDRAWN, settled_not_done(hold_room))
    spec.when(answered_late(ROOM)).then_nothing()
    assert types(spec)[-1] == "reply.contradicted"


def test_an_end_inside_a_scope_closes_it() -> None:
    """S1: closed from outside."""
    saga = Saga(
        "scopes_end",
        version=1,
        starts_on=TripWanted,
        flow=[scope(hold_room, end("early")).on_event(TripWithdrawn), hold_car],
    )
    spec = given(saga, WANTED).when(ROOM).then(ended("early"))
    assert (spec.world.main.subscriptions, spec.world.main.timers) == ([], {})


def test_a_stuck_place_inside_a_scope_does_not_survive_it() -> None:
    """S2."""

    def broken(wanted: TripWanted) -> bool:
        raise RuntimeError("no")

    body = scope(hold_room, when(broken, hold_seat)).on_event(TripWithdrawn, note)
    saga = Saga("scopes_stuck", version=1, starts_on=TripWanted, flow=[body])
    spec = given(saga, WANTED, ROOM).then(asked(HOLD_ROOM), stuck(broken)).when(WITHDRAWN).then(asked(NOTE))
    assert spec.state.stuck == {}
    spec.when(NOTED).then(ended())


def test_the_last_word_of_these_tests_is_a_pivot_in_a_handler() -> None:
    """A handler may hold one: the body is closed by then."""
    body = scope(hold_room, approve).on_event(TripWithdrawn, pivot(charge), end("paid anyway"))
    saga = Saga("scopes_pivot", version=1, starts_on=TripWanted, flow=[body, hold_car])
    spec = given(saga, WANTED, ROOM).when(WITHDRAWN).then(asked(CHARGE)).when(CANCEL).then(settling(charge))
    spec.when(CHARGED).then(ended("paid anyway"))
