"""Rule 19: a person who undoes by hand first takes over, so that nobody acts while the participant still may."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from orchestrator import Saga, fail, parallel, pivot, scope, step
from orchestrator.kernel.inputs import Answer, Operate, Refusal
from orchestrator.testing import (
    Spec,
    answered_late,
    asked,
    cancelled,
    compensated,
    denied,
    elapsed,
    given,
    never_known,
    operated,
    refused,
    replied,
    settled_done,
    settled_not_done,
    settling,
    stuck,
    unanswered,
    undo_refused,
    undone,
)
from orchestrator.testing.world import World
from tests.kernel.trips import (
    CAR,
    FREE_CAR,
    FREE_ROOM,
    FREE_SEAT,
    HOLD_SEAT,
    ROOM,
    SEAT,
    WANTED,
    FreeRoom,
    HoldRoom,
    RoomHeld,
    TripWanted,
    charge,
    hold_car,
    hold_room,
    hold_seat,
    keys,
    note,
    of,
    send_ticket,
    types,
    undone_in,
)

TWO = Saga("take_over_two", version=1, starts_on=TripWanted, flow=[hold_room, hold_car])
PIVOT = Saga("take_over_pivot", version=1, starts_on=TripWanted, flow=[hold_room, pivot(charge), send_ticket])
THREE = Saga("take_over_three", version=1, starts_on=TripWanted, flow=[hold_room, hold_car, hold_seat])
ENOUGH = "cancelled by ann: enough"
CANCEL = cancelled("ann", "enough")


def stuck_undo() -> Spec:
    """The room's undo got no answer and is stuck; nothing else is left."""
    return given(TWO, WANTED, ROOM, refused(hold_car), unanswered(hold_room), answer_undos=False)


def taken() -> Spec:
    """Somebody has taken the room's undo over, and the participant has not said yet."""
    return stuck_undo().when(operated("take_over", hold_room, by="eve"))


def handed() -> Spec:
    """The participant has said not done, so the undo is in the person's hands."""
    return taken().when(settled_not_done(hold_room))


@dataclass(frozen=True)
class Acted:
    """An act on a place by its raw name, stuck or not."""

    place: str
    act: Any = "retry"
    version: int = 1

    def give(self, world: World) -> Refusal | None:
        """Past the check that there is such a place."""
        return world.give(world.main, Operate(self.act, self.place, self.version, "eve", "why"))


def test_taking_an_undo_over_fences_the_undos_key_and_the_key_that_it_undoes() -> None:
    """Rule 19: nobody acts by hand while the participant still may."""
    spec = taken()
    fence = [sent for sent in spec.sent if sent.kind == "fence"][-1]
    assert fence.attributes["idempotencykey"] == keys(spec, "undo")[0]
    assert fence.attributes["undoes"] == keys(spec, "do")[0]
    assert fence.attributes["purpose"] == "fence_undo"


@pytest.mark.parametrize("act", ["done", "skip", "give_back"])
def test_nobody_acts_by_hand_before_the_undo_is_handed_over(act: str) -> None:
    """Rule 19."""
    taken().when(Acted("~hold_room", act, 99)).then(denied("invalid"))


def test_an_undo_that_was_done_after_all_is_the_outcome_of_its_take_over() -> None:
    """Rule 19."""
    taken().when(settled_done(hold_room, _room())).then(compensated("refused"))


def _room() -> RoomHeld:
    return RoomHeld(room="R")


def test_only_on_not_done_is_the_undo_handed_to_the_person() -> None:
    """Rule 19: the stuck mark goes, so that no second person takes it."""
    spec = handed()
    assert types(spec)[-1] == "undo.handed"
    assert spec.state.stuck == {}
    spec.when(elapsed(days=3)).then_nothing()
    assert spec.state.phase == "compensating"


def test_a_person_records_the_undo_as_done_by_hand() -> None:
    """Rule 19."""
    handed().when(operated("done", hold_room, by="eve", reason="phoned the hotel")).then(compensated("refused"))


def test_a_person_skips_the_undo_with_a_reason() -> None:
    """Rule 19."""
    spec = handed().when(operated("skip", hold_room, by="eve", reason="hotel is bankrupt")).then(compensated("refused"))
    assert of(spec, "operator.skipped")[0].data["reason"] == "hotel is bankrupt"


def test_an_undo_that_is_given_back_rejoins_the_plan_under_a_new_key() -> None:
    """Rule 19: its old key was fenced."""
    spec = handed().when(operated("give_back", hold_room)).then(asked(FREE_ROOM))
    assert keys(spec, "undo")[-1] != keys(spec, "undo")[0]
    spec.when(undone(hold_room)).then(compensated("refused"))


def test_acts_on_a_handed_undo_name_the_version_of_the_take_over() -> None:
    """Rule 19."""
    spec = handed()
    spec.when(operated("done", hold_room, version=1)).then(denied("version_moved"))
    spec.when(operated("give_back", hold_room, version=1)).then(denied("version_moved"))


def test_a_take_over_that_gets_no_answer_asks_again() -> None:
    """Rule 19."""
    spec = taken()
    fences = len(keys(spec, "fence"))
    spec.when(elapsed(minutes=5))
    assert len(keys(spec, "fence")) > fences
    assert len(set(keys(spec, "fence"))) == 1


def test_a_handed_undo_holds_back_what_lies_before_it_on_its_path() -> None:
    """Rule 18, rule 19."""
    spec = given(THREE, WANTED, ROOM, CAR, refused(hold_seat), unanswered(hold_car), answer_undos=False)
    spec.when(operated("take_over", hold_car), settled_not_done(hold_car)).then_nothing()
    assert undone_in(spec) == ["hold_car"]
    spec.when(operated("done", hold_car)).then(asked(FREE_ROOM))


def test_a_take_over_survives_the_closing_of_its_scope() -> None:
    """Rule 19: the fence is asked again, and the undo stays out of every plan."""
    spec = taken_in_a_scope()
    spec.when(CANCEL).then_nothing()
    spec.when(elapsed(minutes=5)).then_nothing()
    assert of(spec, "undo.taken_over")[-1].data.get("again"), "the fence of the take-over is asked again"
    spec.when(settled_not_done(hold_room)).then_nothing()
    assert "hold_room.scope/hold_room" not in spec.undo_plan()
    assert undone_in(spec).count("hold_room.scope/hold_room") == 1
    assert spec.state.phase == "compensating"
    spec.when(operated("done", hold_room)).then(asked(FREE_CAR))
    spec.when(undone(hold_car)).then(compensated(ENOUGH))


def taken_in_a_scope() -> Spec:
    """A scope is going back, and somebody has taken over the undo of the room inside it."""
    saga = Saga(
        "take_over_scope",
        version=1,
        starts_on=TripWanted,
        flow=[hold_car, scope(hold_room, hold_seat).on_failed(), note],
    )
    spec = given(saga, WANTED, CAR, ROOM, refused(hold_seat), unanswered(hold_room), answer_undos=False)
    return spec.when(operated("take_over", hold_room))


def test_a_handed_undo_stays_with_the_person_when_the_saga_turns_back() -> None:
    """Rule 19: kept out of every plan until the person has recorded it or given it back."""
    spec = taken_in_a_scope().when(settled_not_done(hold_room), CANCEL)
    spec.when(operated("give_back", hold_room)).then(asked(FREE_ROOM))
    spec.when(undone(hold_room)).then(asked(FREE_CAR))
    spec.when(undone(hold_car)).then(compensated(ENOUGH))


@pytest.mark.parametrize("act", ["done", "skip"])
def test_what_a_person_has_recorded_is_not_asked_again_by_a_plan_made_meanwhile(act: Any) -> None:
    """Rule 19: the saga turned back while the undo was in the person's hands."""
    spec = taken_in_a_scope().when(settled_not_done(hold_room), CANCEL)
    assert spec.undo_plan() == ["hold_car"]
    spec.when(operated(act, hold_room)).then(asked(FREE_CAR))
    spec.when(undone(hold_car)).then(compensated(ENOUGH))
    assert undone_in(spec).count("hold_room.scope/hold_room") == 1


def test_a_carried_over_undo_that_is_taken_over_is_not_asked_by_the_plan() -> None:
    """Rule 18, rule 19: it got stuck before the plan was made, so the plan names it; the person has it now."""
    branch = scope(hold_room, hold_seat).on_failed()
    saga = Saga("take_over_carried", version=1, starts_on=TripWanted, flow=[parallel([branch], [hold_car])])
    spec = (
        given(saga, WANTED, answer_undos=False).when(ROOM, refused(hold_seat)).then(asked(HOLD_SEAT), asked(FREE_ROOM))
    )
    spec.when(CANCEL).then(settling(hold_car))
    spec.when(undo_refused(hold_room)).then(stuck(hold_room, "refused"))
    spec.when(settled_not_done(hold_car))
    before = undone_in(spec)
    spec.when(operated("take_over", hold_room))
    spec.when(operated("done", hold_room)).then(compensated(ENOUGH))
    assert undone_in(spec) == before
    assert len(keys(spec, "undo")) == 1


def test_an_undo_that_can_never_be_known_needs_evidence_before_it_is_handed_over() -> None:
    """Rule 19: of two people, as every outcome that the participant cannot tell."""
    spec = taken().when(never_known(hold_room)).then(stuck(hold_room, "never"))
    fences = len(keys(spec, "fence"))
    spec.when(elapsed(days=1)).then_nothing()
    assert len(keys(spec, "fence")) == fences, "never is final: it is not asked again"
    spec.when(operated("settle", hold_room, by="ann", outcome="not_done")).then_nothing()
    spec.when(operated("settle", hold_room, by="ann", outcome="not_done")).then(denied("second_person"))
    spec.when(operated("settle", hold_room, by="bob", outcome="not_done"))
    assert types(spec)[-1] == "undo.handed"
    spec.when(operated("done", hold_room)).then(compensated("refused"))


def test_evidence_that_an_undo_was_done_ends_it() -> None:
    """Rule 19."""
    spec = taken().when(never_known(hold_room))
    spec.when(
        operated("settle", hold_room, by="ann", outcome="done"), operated("settle", hold_room, by="bob", outcome="done")
    ).then(compensated("refused"))


def test_a_late_ok_of_an_undo_that_is_being_taken_over_is_recorded() -> None:
    """Rule 11: nothing definite is dropped; the fence will say the same."""
    spec = taken().when(answered_late(undone(hold_room)))
    assert types(spec)[-1] in ("reply.late", "saga.compensated")


def test_a_stuck_undo_of_a_builder_that_raises_is_handed_over_at_once() -> None:
    """Rule 19: it was never sent, so nobody can do it."""

    @step
    def hold(wanted: TripWanted) -> HoldRoom:
        return HoldRoom(trip=wanted.trip)

    @hold.undo
    def free(held: RoomHeld) -> FreeRoom:
        raise RuntimeError("no")

    saga = Saga("take_over_builder", version=1, starts_on=TripWanted, flow=[hold, fail("no")])
    spec = given(saga, WANTED, replied(hold, _room())).when(operated("take_over", hold))
    assert types(spec)[-1] == "undo.handed"
    spec.when(operated("done", hold)).then(compensated("no"))


def test_two_stuck_undos_are_two_places() -> None:
    """Rule 18, rule 27."""
    saga = Saga(
        "take_over_side", version=1, starts_on=TripWanted, flow=[hold_room, parallel(hold_car, hold_seat), fail("no")]
    )
    spec = given(saga, WANTED, ROOM, CAR, SEAT, answer_undos=False)
    spec.when(undo_refused(hold_seat), undo_refused(hold_car))
    assert set(spec.state.stuck) == {"~hold_car.parallel/hold_car/hold_car", "~hold_car.parallel/hold_seat/hold_seat"}
    spec.when(operated("retry", hold_car)).then(asked(FREE_CAR))
    spec.when(operated("retry", hold_seat)).then_nothing()
    spec.when(undone(hold_car)).then(asked(FREE_SEAT))


def test_an_answer_to_the_fence_of_an_earlier_take_over_hands_nothing_over() -> None:
    """Rule 19: the undo was given back and asked again under another key; that one may still be done."""
    spec = handed().when(operated("give_back", hold_room), unanswered(hold_room), operated("take_over", hold_room))
    before = types(spec)
    late = Answer("fence_undo", "hold_room", 1, 1, "not_done")
    spec.world.give(spec.world.main, late)
    assert types(spec) == before
    spec.when(settled_done(hold_room, _room())).then(compensated("refused"))
