"""Rules 16 and 25: a call of a child with a pivot is itself a pivot."""

from __future__ import annotations

from orchestrator import Saga, pivot
from orchestrator.kernel.inputs import ChildAnswer
from orchestrator.testing import (
    asked,
    cancelled,
    ended,
    given,
    refused,
    replied,
    settled_done,
    settled_not_done,
    settling,
)
from tests.kernel.hotels import (
    PAYING,
    Paid,
    child_charge,
    child_receipt,
    pay_hotel,
    pay_room,
)
from tests.kernel.trips import (
    CAR,
    NOTE,
    WANTED,
    Charged,
    Note,
    Noted,
    RoomHeld,
    TripWanted,
    hold_car,
    note,
    of,
    types,
)

PAYER = Saga("children_payer", version=1, starts_on=TripWanted, flow=[hold_car, pivot(pay_hotel), note])
PAY_HELD = replied(pay_room, RoomHeld(room="R"))
PAY_CHARGED = replied(child_charge, Charged(receipt="B"))
CANCEL = cancelled("ann", "enough")


def test_a_cancel_before_the_childs_pivot_undoes_both() -> None:
    """Rule 16b: the child pivot is asked to undo."""
    spec = given(PAYER, WANTED, CAR).when(CANCEL).then(settling(pay_hotel), settling(pay_room))
    assert spec.state.phase == "forward", "it waits for the child's answer"
    spec.when(settled_not_done(pay_room))
    assert [output.kind for output in spec.outputs] == ["compensated paying", "asked", "compensated"]


def test_a_cancel_after_the_childs_pivot_is_refused_and_the_parent_waits() -> None:
    """Rule 16a: told at once; the parent marks its own pivot passed."""
    spec = given(PAYER, WANTED, CAR, PAY_HELD, PAY_CHARGED).when(CANCEL).then(settling(pay_hotel))
    assert "cancel.refused" in types(spec)
    assert spec.state.pivot == "passed"
    assert spec.undo_plan() == []
    spec.when(replied(child_receipt, Noted())).then(ended("paid", Paid(receipt="B"), of=PAYING), asked(NOTE))


def test_a_second_cancel_after_the_childs_pivot_is_refused_without_asking_the_child() -> None:
    """Rule 16a."""
    spec = given(PAYER, WANTED, CAR, PAY_HELD, PAY_CHARGED).when(CANCEL)
    spec.when(CANCEL)
    assert spec.outputs[-1].what == "cancel_refused"
    assert len(of(spec, "fence.requested")) == 1


def test_a_parent_is_told_at_once_when_the_childs_pivot_in_flight_was_done() -> None:
    """Rule 16a, rule 16b: it must not wait for the child's end."""
    spec = given(PAYER, WANTED, CAR, PAY_HELD).when(CANCEL).then(settling(pay_hotel), settling(child_charge))
    spec.when(settled_done(child_charge, Charged(receipt="B"))).then(asked(Note(trip="p")))
    assert spec.state.pending is None
    assert spec.state.pivot == "passed"
    spec.when(replied(child_receipt, Noted())).then(ended("paid", of=PAYING), asked(NOTE))


def test_a_child_pivot_that_fails_lets_the_waiting_cancel_turn_the_parent_back() -> None:
    """Rule 20."""
    spec = given(PAYER, WANTED, CAR, PAY_HELD).when(CANCEL)
    spec.when(refused(child_charge, "no money"))
    assert spec.state.phase == "compensated"
    assert spec.state.failure is not None
    assert spec.state.failure["kind"] == "cancelled"


def test_a_child_pivot_that_ended_while_it_was_asked_to_undo_goes_forward() -> None:
    """Rule 16a: its answer says that it has completed."""
    spec = given(PAYER, WANTED, CAR, run_children=False).when(CANCEL)
    answer = ChildAnswer("pay_hotel", 1, "pivot_passed", {"receipt": "B"}, "completed")
    spec.world.give(spec.world.main, answer)
    assert spec.state.activities["pay_hotel"].result == {"receipt": "B"}
    assert spec.state.activities["note"].status == "requested"
