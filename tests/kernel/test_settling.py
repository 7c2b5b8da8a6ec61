"""Rules 13-15: fences and doubt. What a participant does with a fence is tested with its library."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from orchestrator import Saga, end
from orchestrator.testing import (
    answered_late,
    asked,
    cancelled,
    compensated,
    elapsed,
    given,
    in_doubt,
    never_known,
    operated,
    refused,
    settled_done,
    settled_not_done,
    settled_refused,
    settling,
    settling_errored,
    stuck,
    unanswered,
)
from tests.kernel.trips import (
    CAR,
    FREE_CAR,
    FREE_ROOM,
    ROOM,
    WANTED,
    Noted,
    TripWanted,
    charge,
    hold_car,
    hold_room,
    keys,
    note,
    of,
    rate,
    types,
)
from tests.kernel.unsettled import DONE, ENOUGH, PIVOT, READS, TWO, WITH_NOTE, unknown


def test_a_fence_asks_under_the_key_of_the_command_it_settles() -> None:
    """Rule 13: the participant answers with what it has stored for that key."""
    spec = given(TWO, WANTED, ROOM).when(unanswered(hold_car))
    assert keys(spec, "fence") == [keys(spec, "do")[-1]]


def test_a_fence_says_what_was_done() -> None:
    """Rule 13: then it is undone like everything else, newest first."""
    spec = given(TWO, WANTED, ROOM).when(unanswered(hold_car))
    spec.when(settled_done(hold_car, DONE)).then(asked(FREE_CAR), asked(FREE_ROOM), compensated("no answer in time"))


def test_a_fence_says_what_was_not_done() -> None:
    """Rule 13, rule 21: nothing to undo."""
    spec = given(TWO, WANTED, ROOM).when(unanswered(hold_car))
    spec.when(settled_not_done(hold_car)).then(asked(FREE_ROOM), compensated("no answer in time"))


def test_a_fence_says_what_was_refused() -> None:
    """Rule 13, rule 21."""
    spec = given(TWO, WANTED, ROOM).when(unanswered(hold_car))
    spec.when(settled_refused(hold_car)).then(asked(FREE_ROOM), compensated("no answer in time"))


def test_a_step_that_only_reads_is_never_fenced_and_its_late_answer_is_ignored() -> None:
    """Rule 13."""
    spec = given(READS, WANTED, ROOM).when(cancelled("ann", "enough")).then(asked(FREE_ROOM), compensated(ENOUGH))
    before = types(spec)
    spec.when(answered_late(refused(rate))).then_nothing()
    assert types(spec) == before
    assert keys(spec, "fence") == []


def test_a_step_without_undo_is_fenced_too() -> None:
    """Rule 16c: its queued command would act after the saga has ended."""
    spec = given(WITH_NOTE, WANTED, ROOM).when(cancelled("ann", "enough")).then(settling(note), asked(FREE_ROOM))
    spec.when(settled_done(note, Noted())).then(compensated(ENOUGH))


def test_a_fence_without_answer_is_repeated_by_the_undo_policy_and_then_stuck() -> None:
    """Rule 15: the outcome is unknown, and only people can settle it."""
    spec = unknown()
    assert len(keys(spec, "fence")) == 3
    assert list(spec.state.stuck) == ["?hold_car"]
    assert spec.state.stuck["?hold_car"].cause == "unknown"


def test_errors_of_a_fence_count_and_it_is_stuck_in_the_end() -> None:
    """Rule 15: repeated by the undo policy."""
    spec = given(TWO, WANTED, ROOM).when(unanswered(hold_car))
    for _ in range(2):
        spec.when(settling_errored(hold_car, "no database"), elapsed(seconds=3)).then_nothing()
    spec.when(settling_errored(hold_car, "no database")).then(stuck(hold_car, "unknown"))
    assert "no database" in spec.state.stuck["?hold_car"].reason


def test_a_fence_in_doubt_is_asked_again_when_the_participant_says() -> None:
    """Rule 13: in doubt is no answer, and burns no attempt."""
    spec = given(TWO, WANTED, ROOM).when(unanswered(hold_car))
    for _ in range(10):
        spec.when(in_doubt(hold_car, until=timedelta(minutes=20))).then_nothing()
        spec.when(elapsed(minutes=19)).then_nothing()
        fences = len(keys(spec, "fence"))
        spec.when(elapsed(minutes=1))
        assert len(keys(spec, "fence")) == fences + 1
    spec.when(settled_not_done(hold_car)).then(asked(FREE_ROOM), compensated("no answer in time"))


def test_a_fence_that_can_never_be_answered_is_stuck_at_once() -> None:
    """Rule 13, rule 15: never is final."""
    spec = given(TWO, WANTED, ROOM).when(unanswered(hold_car))
    spec.when(never_known(hold_car)).then(stuck(hold_car, "never"))


def test_a_command_whose_outcome_can_never_be_known_is_stuck_without_a_fence() -> None:
    """Rule 13: the participant says so already to the command; asking again cannot help."""
    spec = given(TWO, WANTED).when(replace(never_known(hold_room), purpose="do")).then(stuck(hold_room, "never"))
    before = types(spec)
    spec.when(answered_late(replace(never_known(hold_room), purpose="do"))).then_nothing()
    assert types(spec) == before
    assert keys(spec, "fence") == []


def test_what_can_never_be_known_is_not_asked_again() -> None:
    """Rule 15: once the participant has said never, the place is open to evidence alone, not to another attempt."""
    saga = Saga("settling_told", version=1, starts_on=TripWanted, flow=[hold_room], on_failed=[note])
    spec = given(saga, WANTED, refused(hold_room)).when(unanswered(note)).then(stuck(note, "exhausted"))
    spec.when(answered_late(replace(never_known(note), purpose="do"))).then(stuck(note, "never"))
    assert [place[0] for place in spec.state.stuck] == ["?"]


def test_an_unknown_outcome_holds_the_plan() -> None:
    """Rule 17: nothing is undone while it is open."""
    spec = unknown()
    spec.when(elapsed(days=3)).then_nothing()
    assert of(spec, "undo.planned") == []


def test_a_retry_of_an_unknown_outcome_asks_again_with_a_fresh_policy() -> None:
    """Rule 15."""
    spec = unknown().when(operated("retry", hold_car)).then(settling(hold_car))
    spec.when(unanswered(hold_car)).then(stuck(hold_car, "unknown"))
    assert len(keys(spec, "fence")) == 6


def test_settling_starts_its_policy_afresh_when_the_saga_turns_back() -> None:
    """Rule 15, rule 16c: a fence that was stuck is asked again, with all its attempts."""
    giving_up = hold_room.on_exhausted(end("no"))
    saga = Saga("settling_afresh", version=1, starts_on=TripWanted, flow=[hold_car, giving_up, note])
    spec = given(saga, WANTED, CAR)
    spec.when(unanswered(hold_room), unanswered(hold_room)).then(settling(hold_room), stuck(hold_room, "unknown"))
    spec.when(cancelled("ann", "enough")).then(settling(hold_room))
    spec.when(unanswered(hold_room)).then(stuck(hold_room, "unknown"))
    assert len(keys(spec, "fence")) == 6


def test_a_cancel_waits_for_a_pivot_whose_fence_is_stuck() -> None:
    """Rule 16b, rule 20."""
    spec = given(PIVOT, WANTED, ROOM).when(unanswered(charge), unanswered(charge))
    spec.then(settling(charge), stuck(charge, "unknown"))
    spec.when(cancelled("ann", "enough"))
    assert spec.state.pending is not None
    spec.when(operated("retry", charge)).then(settling(charge))
    spec.when(settled_not_done(charge)).then(asked(FREE_ROOM), compensated(ENOUGH))
