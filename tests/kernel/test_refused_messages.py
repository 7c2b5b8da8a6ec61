"""What random schedules found in the kernel, as small specifications: lost starts, refused messages, late effects."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from orchestrator import Command, Done, Key, Saga, call, fail, for_each, pivot, step
from orchestrator.kernel.inputs import Answer, ChildAnswer, Operate, SendRefused, TimerDue
from orchestrator.testing import asked, cancelled, compensated, given, operated, undo_refused
from tests.kernel.trips import CHARGED, FREE_ROOM, ROOM, WANTED, HoldRoom, Note, TripWanted, charge, hold_room, note


class Pay(Command[Done]):
    """Starts a child with a pivot."""

    trip: Key[str]


def pay(wanted: TripWanted) -> Pay:
    """Calls the child."""
    return Pay(trip=wanted.trip)


def pay_out(wanted: Pay) -> Note:
    """The child's pivot."""
    return Note(trip=wanted.trip)


def no_stops(wanted: TripWanted) -> list[int]:
    """Nothing to do for each."""
    return list(range(wanted.stops))


def test_a_for_each_without_items_on_the_failure_path_does_not_hold_the_end() -> None:
    saga = Saga(
        "empty_loop",
        version=1,
        starts_on=TripWanted,
        flow=[hold_room, fail("no")],
        on_failed=[for_each(no_stops, note)],
    )
    given(saga, WANTED).when(ROOM).then(asked(FREE_ROOM), compensated("no"))


def test_a_command_that_the_broker_refuses_for_good_waits_without_a_clock_until_it_is_retried() -> None:
    """Rule 30."""
    spec = given(Saga("unsent", version=1, starts_on=TripWanted, flow=[hold_room]), WANTED)
    spec.world.give(spec.world.main, SendRefused(len(spec.records), "too large"))
    found = spec.state.activities["hold_room"]
    assert (found.due, found.status) == (0, "unknown")
    spec.when(operated("retry", hold_room)).then(asked(hold_room.function(TripWanted(trip="t-1"))))


def test_a_refused_event_is_acknowledged_and_nothing_breaks() -> None:
    spec = given(Saga("unsent_event", version=1, starts_on=TripWanted, flow=[hold_room]), WANTED)
    spec.world.give(spec.world.main, SendRefused(999, "too large"))
    version = spec.state.stuck["!"].version
    spec.world.give(spec.world.main, Operate("retry", "!", version, "ann", "seen"))
    assert not spec.state.stuck


def test_a_step_that_is_being_settled_is_not_asked_again() -> None:
    """Rule 14: a do after the fence could only be refused."""
    spec = given(Saga("settling_unsent", version=1, starts_on=TripWanted, flow=[hold_room]), WANTED)
    spec.world.give(spec.world.main, SendRefused(len(spec.records), "too large"))
    spec.when(cancelled("ann", "not wanted"))
    assert "!hold_room" not in spec.state.stuck


def test_what_can_never_be_known_is_told_at_once_also_of_a_do() -> None:
    """Rule 13: asking again cannot help."""
    spec = given(Saga("never_do", version=1, starts_on=TripWanted, flow=[hold_room]), WANTED)
    spec.world.give(spec.world.main, Answer("do", "hold_room", 1, 1, "never", reason="lost"))
    assert spec.state.stuck["?hold_room"].cause == "never"
    assert not spec.state.activities["hold_room"].due


def test_the_deadline_that_turned_a_saga_back_fires_once() -> None:
    """A pivot in flight is settled first; meanwhile the timer is gone."""
    saga = Saga("late", version=1, starts_on=TripWanted, flow=[hold_room, pivot(charge)], within=timedelta(seconds=20))
    spec = given(saga, WANTED, ROOM)
    spec.world.give(spec.world.main, TimerDue("", spec.state.deadline_armed))
    assert spec.state.pending is not None
    assert spec.state.deadline == 0


def test_a_value_by_hand_without_a_value_is_refused_and_breaks_nothing() -> None:
    """Rule 27: what is typed is validated, also when nothing is typed."""

    def broken(wanted: TripWanted) -> HoldRoom:
        raise RuntimeError("no")

    asking = step(undo=None)(broken)
    spec = given(Saga("nothing_typed", version=1, starts_on=TripWanted, flow=[asking]), WANTED)
    version = spec.state.stuck["+broken"].version
    refusal = spec.world.give(spec.world.main, Operate("value", "+broken", version, "ann", "typed", data=None))
    assert refusal is not None
    assert refusal.code == "invalid"


def test_a_take_over_believes_only_the_answer_of_its_own_undo() -> None:
    """Rule 19: an old refusal, repeated, says nothing about the round that is in flight: it was undone twice so."""
    refusing = Saga("stale_answer", version=1, starts_on=TripWanted, flow=[hold_room, fail("no")])
    spec = given(refusing, WANTED, ROOM, undo_refused(hold_room), operated("retry", "~hold_room"), answer_undos=False)
    undo = spec.state.activities["hold_room"].undo
    assert undo is not None
    assert undo.round == 2
    version = len(spec.records)
    spec.world.give(spec.world.main, SendRefused(version, "too large"))
    spec.when(operated("take_over", "~hold_room"))
    spec.world.give(spec.world.main, Answer("fence_undo", "hold_room", 1, 1, "refused", reason="of the first round"))
    undo = spec.state.activities["hold_room"].undo
    assert undo is not None
    assert undo.status == "taken"


def test_a_round_after_evidence_carries_the_keys_that_are_still_owed_a_fence() -> None:
    """Rule 15: the participant answers or refuses the earlier key first. Random schedules reach this too seldom."""
    flow: list[Any] = [hold_room, pivot(charge), note]
    spec = given(Saga("owed_round", version=1, starts_on=TripWanted, flow=flow), WANTED, ROOM, CHARGED)
    spec.world.give(spec.world.main, SendRefused(len(spec.records), "too large"))
    spec.when(operated("not_done", "!note"))
    spec.world.give(spec.world.main, SendRefused(len(spec.records), "too large"))
    spec.when(operated("settle", "?note", by="ann", outcome="not_done"))
    spec.when(operated("settle", "?note", by="bob", outcome="not_done"))
    spec.when(operated("retry", "!note"))
    found = spec.state.activities["note"]
    assert found.round == 2
    assert [key.split(":")[3] for key in found.earlier] == ["1"]


def test_a_child_that_completed_behind_its_pivot_is_believed_also_before_it_says_that_the_pivot_passed() -> None:
    """Rule 16b: its two answers may change places; the parent waited for ever for the second "completed"."""
    child = Saga("paying", version=1, starts_on=Pay, flow=[pivot(step(undo=None)(pay_out))])
    flow: list[Any] = [hold_room, pivot(call(child)(pay))]
    spec = given(Saga("paid", version=1, starts_on=TripWanted, flow=flow), WANTED, ROOM, run_children=False)
    main = spec.world.main
    spec.when(cancelled("ann", "not wanted"))
    spec.world.give(main, ChildAnswer("pay", 1, "completed", {}))
    spec.world.give(main, ChildAnswer("pay", 1, "pivot_passed"))
    assert spec.state.phase == "completed"
