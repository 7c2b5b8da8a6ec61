"""The checks that run after every turn of a specification notice what they are there for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator import Saga
from orchestrator.kernel.api import Turn, advance, fold
from orchestrator.kernel.effects import Timer
from orchestrator.kernel.inputs import Answer
from orchestrator.kernel.records import Record
from orchestrator.testing import KernelError, Spec, given
from orchestrator.testing.checks import check_alive, check_tables, check_turn, stored
from tests.kernel.trips import ROOM, WANTED, TripWanted, approve, hold_car, hold_room

SAGA = Saga("checks", version=1, starts_on=TripWanted, flow=[hold_room, hold_car, approve])
ANSWER = Answer("do", "hold_car", 1, 1, "ok", {"car": "C"})


def next_turn(spec: Spec) -> Turn:
    """The turn that would come next."""
    return advance(SAGA.program, spec.state, ANSWER, spec.world.clock + 1)


def test_a_good_turn_passes() -> None:
    """V12, V13."""
    spec = given(SAGA, WANTED, ROOM)
    check_turn(spec.records, next_turn(spec), next_turn(spec), spec.state)


def test_deciding_again_otherwise_is_noticed() -> None:
    """V13: in records and in effects."""
    spec = given(SAGA, WANTED, ROOM)
    turn = next_turn(spec)
    with pytest.raises(KernelError, match="V13"):
        check_turn(spec.records, turn, replace(turn, records=turn.records[:-1]), spec.state)
    with pytest.raises(KernelError, match="V13"):
        check_turn(spec.records, turn, replace(turn, effects=replace(turn.effects, consumed=["e"])), spec.state)


def test_a_state_that_the_records_do_not_give_is_noticed() -> None:
    """V12: the difference is named."""
    spec = given(SAGA, WANTED, ROOM)
    turn, again = next_turn(spec), next_turn(spec)
    turn.state.touch("hold_room").attempt = 7
    with pytest.raises(KernelError, match=r"V12: .* activities\nfolded hold_room"):
        check_turn(spec.records, turn, again, spec.state)


def test_an_order_that_the_records_do_not_give_is_noticed() -> None:
    """V12: the first token moves first, so the order is part of a state."""
    spec = given(SAGA, WANTED, ROOM)
    turn, again = next_turn(spec), next_turn(spec)
    turn.state.activities = dict(reversed(turn.state.activities.items()))
    with pytest.raises(KernelError, match=r"V12: .* order of activities"):
        check_turn(spec.records, turn, again, spec.state)


def test_a_state_that_a_turn_changed_under_its_caller_is_noticed() -> None:
    """Rule 28: decide works on a fork."""
    spec = given(SAGA, WANTED, ROOM)
    turn, again = next_turn(spec), next_turn(spec)
    spec.state.activities["hold_room"].attempt = 7
    with pytest.raises(KernelError, match="fork: "):
        check_turn(spec.records, turn, again, spec.state)


def test_rows_that_the_state_does_not_speak_of_are_noticed() -> None:
    """Section 1: no second list."""
    spec = given(SAGA, WANTED, ROOM)
    [timer] = spec.world.main.timers.values()
    good = {timer.activity: (timer.due, timer.armed)}
    check_tables(spec.state, good, [], [])
    with pytest.raises(KernelError, match="effects: timers"):
        check_tables(spec.state, {}, [], [])
    with pytest.raises(KernelError, match="effects: subscriptions"):
        check_tables(spec.state, good, [("hold_car", "t", "k")], [])
    with pytest.raises(KernelError, match="effects: open tasks"):
        check_tables(spec.state, good, [], ["approve"])


def test_a_live_saga_that_waits_for_nothing_is_an_orphan() -> None:
    """Rule 29: anything else is a bug, and is reported as one."""
    state = given(SAGA, WANTED, ROOM).state
    check_alive(state, ["hold_car"], [], [])
    with pytest.raises(KernelError, match="orphan: saga checks is in phase forward"):
        check_alive(state, [], [], [])
    check_alive(fold([]), [], [], [])


def test_what_is_compared_is_what_the_store_would_give_back() -> None:
    """A tuple comes back as a list: a state must not depend on it."""
    record = stored(Record("value.computed", "x", {"value": (1, 2)}))
    assert record.data == {"value": [1, 2]}
    assert Timer("x", 1, 1) == Timer("x", 1, 1)
