"""Rule 27: operators act on named stuck places, and say which record they answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from orchestrator import Saga, choose, fail, pivot, step, when
from orchestrator.kernel.api import Limits
from orchestrator.kernel.inputs import Operate, Refusal, SendRefused
from orchestrator.kernel.operators import proposed
from orchestrator.testing import (
    Spec,
    asked,
    cancelled,
    compensated,
    denied,
    ended,
    given,
    operated,
    refused,
    replied,
    settled_not_done,
    settling,
    stuck,
    unanswered,
)
from orchestrator.testing.world import World
from tests.kernel.trips import (
    CHARGED,
    FREE_ROOM,
    HOLD_CAR,
    HOLD_ROOM,
    NOTE,
    NOTED,
    ROOM,
    SEND_TICKET,
    WANTED,
    Charged,
    Note,
    Noted,
    TicketSent,
    TripWanted,
    charge,
    hold_car,
    hold_room,
    hold_seat,
    note,
    of,
    send_ticket,
)

TWO = Saga("operators_two", version=1, starts_on=TripWanted, flow=[hold_room, hold_car])
PIVOT = Saga("operators_pivot", version=1, starts_on=TripWanted, flow=[hold_room, pivot(charge), send_ticket])
THREE = Saga("operators_three", version=1, starts_on=TripWanted, flow=[hold_room, hold_car, hold_seat])
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


def test_an_act_needs_a_reason() -> None:
    """Rule 27: it is a record with person and reason."""
    stuck_undo().when(operated("retry", hold_room, reason="")).then(denied("invalid"))


def test_an_act_on_a_place_that_is_not_stuck_is_refused() -> None:
    """Rule 27."""
    spec = given(TWO, WANTED)
    spec.when(Acted("!hold_room")).then(denied("not_stuck"))


@dataclass(frozen=True)
class Acted:
    """An act on a place by its raw name, stuck or not."""

    place: str
    act: Any = "retry"
    version: int = 1

    def give(self, world: World) -> Refusal | None:
        """Past the check that there is such a place."""
        return world.give(world.main, Operate(self.act, self.place, self.version, "eve", "why"))


def test_an_act_names_the_version_of_the_stuck_record_that_it_answers() -> None:
    """Rule 27: evidence for a step's outcome came late and was taken for its undo's."""
    spec = stuck_undo()
    old = spec.state.stuck["~hold_room"].version
    spec.when(operated("retry", hold_room), unanswered(hold_room))
    spec.when(operated("retry", hold_room, version=old)).then(denied("version_moved"))
    spec.when(operated("retry", hold_room)).then(asked(FREE_ROOM))


def test_every_act_is_a_record_with_person_and_reason() -> None:
    """Rule 27."""
    spec = stuck_undo().when(operated("retry", hold_room, by="eve", reason="hotel is back"))
    [record] = of(spec, "operator.retried")
    assert record.data["by"] == "eve"
    assert record.data["reason"] == "hotel is back"
    assert record.data["answers"] == spec.records.index(of(spec, "saga.stuck")[0]) + 1


@pytest.mark.parametrize("act", ["value", "done", "skip", "settle", "not_done", "give_back"])
def test_an_act_that_does_not_fit_the_place_is_refused(act: str) -> None:
    """Rule 27: an undo is retried or taken over, nothing else."""
    spec = stuck_undo()
    before = len(spec.records)
    spec.when(operated(act, hold_room)).then(denied("invalid"))  # type: ignore[arg-type]
    assert len(spec.records) == before


# --- four eyes

TWO_PEOPLE = Limits(two_people=frozenset({"done", "value", "skip"}))


def badly_sent() -> Spec:
    """After the pivot a function raises, and acts by hand need two people."""
    return given(AFTER, WANTED, CHARGED, limits=TWO_PEOPLE)


def test_a_dangerous_act_is_proposed_by_one_person_and_done_when_another_does_the_same() -> None:
    """Rule 27: the record names both."""
    spec = badly_sent()
    spec = spec.when(operated("value", send_badly, by="eve", data={"trip": "t-1"})).then_nothing()
    assert [record.type for record in spec.records][-1] == "operator.proposed"
    spec = spec.when(operated("value", send_badly, by="ann", data={"trip": "t-1"})).then(asked(NOTE))
    [record] = of(spec, "operator.completed_by_hand")
    assert record.data["people"] == ["eve", "ann"]


def test_nobody_confirms_what_they_proposed_themselves() -> None:
    """Rule 27."""
    spec = badly_sent().when(operated("value", send_badly, by="eve", data={"trip": "t-1"}))
    spec.when(operated("value", send_badly, by="eve", data={"trip": "t-1"})).then(denied("second_person"))


def test_the_second_person_names_the_proposal_that_they_saw() -> None:
    """Rule 27: not the stuck record, of which they could know without having seen what is proposed."""
    spec = badly_sent()
    [place] = spec.state.stuck.values()
    spec = spec.when(operated("value", send_badly, by="eve", data={"trip": "t-1"}))
    late = operated("value", send_badly, by="ann", data={"trip": "t-1"}, version=place.version)
    spec.when(late).then(denied("version_moved"))


def test_another_value_is_another_proposal() -> None:
    """Rule 27: two people must mean the same."""
    spec = badly_sent().when(operated("value", send_badly, by="eve", data={"trip": "t-1"}))
    spec = spec.when(operated("value", send_badly, by="ann", data={"trip": "t-2"})).then_nothing()
    spec.when(operated("value", send_badly, by="ann", data={"trip": "t-2"})).then(denied("second_person"))
    spec.when(operated("value", send_badly, by="eve", data={"trip": "t-2"})).then(asked(Note(trip="t-2")))


def test_true_is_not_confirmed_by_one() -> None:
    """Rule 27: both compare as equal, and lead elsewhere."""

    def sunny(wanted: TripWanted) -> bool:
        raise RuntimeError("no weather")

    saga = Saga("operators_sun", version=1, starts_on=TripWanted, flow=[when(sunny, hold_room).otherwise(hold_car)])
    spec = given(saga, WANTED, limits=TWO_PEOPLE).when(operated("value", sunny, by="eve", data=True))
    spec = spec.when(operated("value", sunny, by="ann", data=1)).then_nothing()
    assert of(spec, "operator.completed_by_hand") == []
    spec.when(operated("value", sunny, by="bob", data=True)).then_nothing()
    spec.when(operated("value", sunny, by="eve", data=True)).then(asked(HOLD_ROOM))


def test_a_retry_voids_what_was_proposed() -> None:
    """Rule 27: the place is stuck anew, and the proposal was about the old one."""
    spec = badly_sent().when(operated("value", send_badly, by="eve", data={"trip": "t-1"}))
    spec = spec.when(operated("retry", send_badly, by="ann"))
    assert spec.state.proposed == {}
    spec.when(operated("value", send_badly, by="ann", data={"trip": "t-1"})).then_nothing()


def test_a_proposal_does_not_outlive_what_it_was_about() -> None:
    """Rule 27: the place went on by itself and is stuck anew; what was meant for the old trouble counts no more."""
    spec = badly_sent().when(operated("value", send_badly, by="eve", data={"trip": "t-1"}))
    [place], [about] = spec.state.stuck, [stuck.version for stuck in spec.state.stuck.values()]
    assert proposed(spec.state, place, about) is not None
    assert proposed(spec.state, place, about + 5) is None


def test_an_undo_is_skipped_by_two() -> None:
    """Rule 19: its effect stays, and two people say so."""
    spec = given(TWO, WANTED, ROOM, refused(hold_car), unanswered(hold_room), answer_undos=False, limits=TWO_PEOPLE)
    spec = spec.when(operated("take_over", hold_room, by="eve"), settled_not_done(hold_room))
    spec = spec.when(operated("skip", hold_room, by="eve")).then_nothing()
    spec.when(operated("skip", hold_room, by="ann")).then(compensated("refused"))


# --- values by hand


@step(undo=None)
def send_badly(charged: Charged) -> Note:
    raise ValueError("no template")


AFTER = Saga("operators_after", version=1, starts_on=TripWanted, flow=[pivot(charge), send_badly])


def test_a_function_that_cannot_be_mended_gets_its_value_by_hand() -> None:
    """Rule 27: the only way out after the pivot."""
    spec = given(AFTER, WANTED, CHARGED)
    spec.when(operated("value", send_badly, data={"trip": "t-1"})).then(asked(NOTE))
    spec.when(replied(send_badly, Noted())).then(ended())


def test_a_value_by_hand_is_validated() -> None:
    """Rule 27: as what the function would have returned."""
    spec = given(AFTER, WANTED, CHARGED)
    spec.when(operated("value", send_badly, data={"trop": 1})).then(denied("invalid"))
    assert spec.state.by_hand == {}


def test_a_value_by_hand_is_kept_for_its_activity_and_function_only() -> None:
    """Rule 27: the same function of another run is called."""
    saga = Saga(
        "operators_two_notes",
        version=1,
        starts_on=TripWanted,
        flow=[pivot(charge), send_badly, send_badly.named("again")],
    )
    spec = given(saga, WANTED, CHARGED).when(operated("value", send_badly, data={"trip": "t-1"}))
    spec.when(replied(send_badly, Noted())).then(stuck("again", "function"))


def test_a_condition_gets_its_answer_by_hand() -> None:
    """Rule 27: also where the function gives no contract."""

    def sunny(wanted: TripWanted) -> bool:
        raise RuntimeError("no weather")

    saga = Saga("operators_when", version=1, starts_on=TripWanted, flow=[when(sunny, hold_room).otherwise(hold_car)])
    given(saga, WANTED).when(operated("value", sunny, data=True)).then(asked(HOLD_ROOM))
    given(saga, WANTED).when(operated("value", sunny, data=False)).then(asked(HOLD_CAR))


def test_a_choice_gets_its_label_by_hand() -> None:
    """Rule 27."""

    def how(wanted: TripWanted) -> Literal["room", "car"]:
        raise RuntimeError("cannot say")

    saga = Saga(
        "operators_choose",
        version=1,
        starts_on=TripWanted,
        flow=[choose(how).on("room", hold_room).on("car", hold_car)],
    )
    given(saga, WANTED).when(operated("value", how, data="car")).then(asked(HOLD_CAR))
    spec = given(saga, WANTED).when(operated("value", how, data="boat")).then(denied("invalid"))
    spec.when(operated("value", how, data="room")).then(asked(HOLD_ROOM))


def test_a_reason_and_a_time_limit_get_their_value_by_hand() -> None:
    """Rule 27: every function has a way out."""

    def why(wanted: TripWanted) -> str:
        raise RuntimeError("cannot say")

    saga = Saga("operators_why", version=1, starts_on=TripWanted, flow=[fail(why)])
    given(saga, WANTED).when(operated("value", why, data="overbooked")).then(compensated("overbooked"))


# --- steps by hand


def test_a_refused_step_is_done_by_hand_with_a_validated_reply() -> None:
    """Rule 27: `!` done."""
    spec = given(PIVOT, WANTED, ROOM, CHARGED, refused(send_ticket))
    spec.when(operated("done", send_ticket, data={"wrong": 1})).then(denied("invalid"))
    spec.when(operated("done", send_ticket, data=TicketSent(ticket="paper"))).then(ended())
    assert spec.state.activities["send_ticket"].result == {"ticket": "paper"}


def test_a_step_that_nobody_answers_is_settled_through_the_fence() -> None:
    """Rule 27: `!` not done, never by word alone."""
    saga = Saga("operators_told", version=1, starts_on=TripWanted, flow=[hold_room, fail("no")], on_failed=[note])
    spec = given(saga, WANTED, ROOM).when(unanswered(note)).then(stuck(note, "exhausted"))
    spec.when(operated("not_done", note)).then(settling(note))
    spec.when(NOTED).then(compensated("no"))


def test_not_done_of_a_known_outcome_is_refused() -> None:
    """Rule 27."""
    given(PIVOT, WANTED, ROOM, CHARGED, refused(send_ticket)).when(operated("not_done", send_ticket)).then(
        denied("invalid")
    )


def test_a_pivot_settled_as_done_by_evidence_refuses_the_cancel_that_waited_for_it() -> None:
    """Rule 16b, rule 20: past the pivot nothing is undone."""
    spec = given(PIVOT, WANTED, ROOM, CANCEL, unanswered(charge))
    receipt = Charged(receipt="B")
    spec.when(operated("settle", charge, by="ann", outcome="done", data=receipt)).then_nothing()
    spec.when(operated("settle", charge, by="bob", outcome="done", data=receipt)).then(asked(SEND_TICKET))
    assert spec.state.pivot == "passed"
    assert spec.state.pending is None


def test_a_pivot_that_was_never_sent_is_done_by_hand_and_passes() -> None:
    """Rule 27, rule 30: the broker refused the command for good."""
    spec = given(PIVOT, WANTED, ROOM)
    spec.world.give(spec.world.main, SendRefused(len(spec.records), "too large"))
    spec.when(operated("done", charge, data=Charged(receipt="B"))).then(asked(SEND_TICKET))
    assert spec.undo_plan() == []
