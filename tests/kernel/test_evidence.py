"""Rule 15: evidence of two people, fences that stay owed, effects that were denied and found."""

from __future__ import annotations

from datetime import timedelta

from orchestrator import Saga, fail, pivot
from orchestrator.testing import (
    Spec,
    answered_late,
    asked,
    cancelled,
    compensated,
    denied,
    elapsed,
    ended,
    given,
    in_doubt,
    never_known,
    operated,
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
    FREE_CAR,
    FREE_ROOM,
    HOLD_ROOM,
    NOTE,
    ROOM,
    SEND_TICKET,
    WANTED,
    Charged,
    Noted,
    RoomHeld,
    TripWanted,
    charge,
    hold_car,
    hold_room,
    keys,
    note,
    of,
    rate,
    send_ticket,
    types,
)
from tests.kernel.unsettled import BY_POST, DONE, ENOUGH, PIVOT, TWO, unknown


def test_one_persons_word_never_settles_an_outcome() -> None:
    """Rule 15: evidence needs a second person."""
    spec = unknown().when(operated("settle", hold_car, by="ann", outcome="not_done")).then_nothing()
    spec.when(operated("settle", hold_car, by="ann", outcome="not_done")).then(denied("second_person"))
    assert "?hold_car" in spec.state.stuck


def test_two_people_settle_an_outcome_as_not_done() -> None:
    """Rule 15."""
    spec = unknown().when(operated("settle", hold_car, by="ann", outcome="not_done"))
    spec.when(operated("settle", hold_car, by="bob", outcome="not_done")).then(asked(FREE_ROOM), compensated(ENOUGH))
    assert of(spec, "operator.settled")[0].data["people"] == ["ann", "bob"]


def test_two_people_settle_an_outcome_as_done_with_a_validated_reply() -> None:
    """Rule 15: the undo needs the reply."""
    spec = unknown().when(operated("settle", hold_car, by="ann", outcome="done", data=DONE)).then_nothing()
    spec.when(operated("settle", hold_car, by="bob", outcome="done", data=DONE)).then(
        asked(FREE_CAR), asked(FREE_ROOM), compensated(ENOUGH)
    )


def test_evidence_with_a_reply_that_does_not_fit_is_refused() -> None:
    """Rule 15: validated against the contract."""
    spec = unknown().when(operated("settle", hold_car, outcome="done", data={"wheels": 4})).then(denied("invalid"))
    assert of(spec, "evidence.proposed") == []


def test_evidence_without_an_outcome_is_refused() -> None:
    """Rule 15."""
    unknown().when(operated("settle", hold_car, outcome="perhaps")).then(denied("invalid"))


def test_two_people_who_disagree_settle_nothing() -> None:
    """Rule 15: the second becomes the first of another proposal."""
    spec = unknown().when(operated("settle", hold_car, by="ann", outcome="not_done"))
    spec.when(operated("settle", hold_car, by="bob", outcome="done", data=DONE)).then_nothing()
    assert "?hold_car" in spec.state.stuck
    spec.when(operated("settle", hold_car, by="ann", outcome="done", data=DONE))
    assert "?hold_car" not in spec.state.stuck


def test_a_retry_in_between_voids_the_first_persons_proposal() -> None:
    """Rule 15: what was seen before the retry is not evidence for what came after it."""
    spec = unknown().when(operated("settle", hold_car, by="ann", outcome="not_done"))
    spec.when(operated("retry", hold_car), unanswered(hold_car))
    spec.when(operated("settle", hold_car, by="bob", outcome="not_done")).then_nothing()
    assert "?hold_car" in spec.state.stuck


def test_evidence_names_the_version_that_it_answers() -> None:
    """Rule 27."""
    spec = unknown()
    old = spec.state.stuck["?hold_car"].version
    spec.when(operated("retry", hold_car), unanswered(hold_car))
    spec.when(operated("settle", hold_car, by="bob", outcome="not_done", version=old)).then(denied("version_moved"))


def test_the_second_person_names_the_proposal() -> None:
    """Rule 27: a proposal may have changed while the second person was reading."""
    spec = unknown().when(operated("settle", hold_car, by="ann", outcome="not_done"))
    version = spec.state.stuck["?hold_car"].version
    spec.when(operated("settle", hold_car, by="bob", outcome="not_done", version=version)).then(denied("version_moved"))


def test_evidence_settles_the_saga_and_leaves_the_fence_owed() -> None:
    """Rule 15: the key is asked for further, also after the end."""
    spec = unknown()
    fences = len(keys(spec, "fence"))
    spec.when(
        operated("settle", hold_car, by="ann", outcome="not_done"),
        operated("settle", hold_car, by="bob", outcome="not_done"),
    )
    assert spec.state.phase == "compensated"
    assert len(keys(spec, "fence")) == fences + 1
    assert set(keys(spec, "fence")) == {keys(spec, "do")[-1]}


def test_an_owed_fence_is_asked_until_the_participant_has_said_what_it_did() -> None:
    """Rule 15: it survives the end, and doubts."""
    spec = settled_by_two("not_done")
    fences = len(keys(spec, "fence"))
    spec.when(elapsed(hours=1)).then_nothing()
    assert len(keys(spec, "fence")) > fences + 3
    spec.when(in_doubt(hold_car, until=timedelta(minutes=5))).then_nothing()
    fences = len(keys(spec, "fence"))
    spec.when(elapsed(hours=3)).then_nothing()
    assert fences + 1 < len(keys(spec, "fence")) < fences + 6, "patiently"
    spec.when(settled_not_done(hold_car)).then_nothing()
    assert spec.world.main.timers == {}
    assert spec.state.phase == "compensated"


def test_an_owed_fence_that_can_never_be_answered_ends_the_matter() -> None:
    """Rule 15: the evidence is final, and the key leaves the list."""
    spec = settled_by_two("not_done").when(never_known(hold_car)).then_nothing()
    assert types(spec)[-1] == "evidence.checked"
    assert spec.world.main.timers == {}


def test_an_owed_fence_goes_on_through_the_turning_back_of_its_saga() -> None:
    """Rule 15: no closing takes it away."""
    spec = denied_and_gone_on("evidence_owed").when(replied(note, Noted()), refused(hold_car))
    assert spec.state.phase == "compensated"
    assert list(spec.world.main.timers) == ["hold_room"]
    spec.when(settled_not_done(hold_room)).then_nothing()
    assert spec.world.main.timers == {}


def test_an_owed_fence_that_agrees_with_the_evidence_ends_the_matter() -> None:
    """Rule 15."""
    spec = settled_by_two("not_done").when(settled_not_done(hold_car)).then_nothing()
    assert types(spec)[-1] == "evidence.checked"
    spec.when(answered_late(settled_not_done(hold_car))).then_nothing()
    assert types(spec)[-1] == "reply.late"


def settled_by_two(outcome: str, saga: Saga[TripWanted] = TWO) -> Spec:
    """The unknown outcome was settled by evidence."""
    data = DONE if outcome == "done" else None
    return unknown(saga).when(
        operated("settle", hold_car, by="ann", outcome=outcome, data=data),
        operated("settle", hold_car, by="bob", outcome=outcome, data=data),
    )


def test_an_effect_found_after_the_end_becomes_work_for_a_person() -> None:
    """Rule 15: evidence said not done, the participant says done."""
    spec = settled_by_two("not_done").when(settled_done(hold_car, DONE)).then(stuck(hold_car, "effect_found"))
    assert spec.state.phase == "compensated"
    assert of(spec, "effect.found")[0].data["outcome"] == "ok"


def test_work_that_is_left_after_the_end_is_recorded_as_done_and_asks_nobody_again() -> None:
    """Rule 15: the saga is over; the person has acted outside."""
    spec = settled_by_two("not_done", TWO).when(settled_done(hold_car, DONE))
    sent = len(spec.sent)
    spec.when(operated("retry", hold_car)).then(denied("invalid"))
    spec.when(operated("done", hold_car, reason="car given back by phone")).then_nothing()
    assert spec.state.stuck == {}
    assert len(spec.sent) == sent
    assert spec.state.phase == "compensated"


def test_evidence_that_a_kept_or_finished_thing_was_done_and_that_was_not_becomes_a_redo() -> None:
    """Rule 15: a wrong "done" on something that should stand."""
    saga = Saga("evidence_redo", version=1, starts_on=TripWanted, flow=[hold_room, pivot(charge), send_ticket])
    spec = given(saga, WANTED, ROOM).when(unanswered(charge), unanswered(charge))
    receipt = Charged(receipt="B")
    spec.when(
        operated("settle", charge, by="ann", outcome="done", data=receipt),
        operated("settle", charge, by="bob", outcome="done", data=receipt),
    ).then(asked(SEND_TICKET))
    spec.when(settled_not_done(charge)).then(stuck(charge, "effect_found"))
    assert "redo" in spec.state.stuck["!charge"].reason


def test_an_effect_found_before_the_plan_joins_it_at_its_steps_place() -> None:
    """Rule 15: compensation is still settling another step."""
    saga = Saga("evidence_found", version=1, starts_on=TripWanted, flow=[hold_car, hold_room, note, rate])
    spec = given(saga, WANTED).when(cancelled("ann", "enough"), unanswered(hold_car))
    spec.when(
        operated("settle", hold_car, by="ann", outcome="not_done"),
        operated("settle", hold_car, by="bob", outcome="not_done"),
    ).then(compensated(ENOUGH))


def test_an_effect_found_while_others_are_undone_joins_the_plan() -> None:
    """Rule 15: the room's undo is still under way."""
    spec = given(TWO, WANTED, ROOM, answer_undos=False)
    spec.when(cancelled("ann", "enough"), unanswered(hold_car))
    spec.when(
        operated("settle", hold_car, by="ann", outcome="not_done"),
        operated("settle", hold_car, by="bob", outcome="not_done"),
    ).then(asked(FREE_ROOM))
    spec.when(settled_done(hold_car, DONE)).then_nothing()
    assert spec.undo_plan() == ["hold_car"]


def test_where_the_participant_says_never_the_evidence_is_final_and_no_fence_is_owed() -> None:
    """Rule 15: the key leaves the list."""
    spec = given(TWO, WANTED, ROOM).when(unanswered(hold_car), never_known(hold_car))
    fences = len(keys(spec, "fence"))
    spec.when(
        operated("settle", hold_car, by="ann", outcome="not_done"),
        operated("settle", hold_car, by="bob", outcome="not_done"),
    )
    assert len(keys(spec, "fence")) == fences


def test_a_later_rounds_command_names_the_keys_of_rounds_that_are_owed_a_fence() -> None:
    """Rule 15: the participant refuses or answers those first."""
    saga = Saga("evidence_rounds", version=1, starts_on=TripWanted, flow=[fail("no")], on_failed=[note])
    spec = given(saga, WANTED).when(unanswered(note)).then(stuck(note, "exhausted"))
    spec.when(operated("not_done", note)).then(settling(note))
    spec.when(unanswered(note)).then(stuck(note, "unknown"))
    spec.when(
        operated("settle", note, by="ann", outcome="not_done"), operated("settle", note, by="bob", outcome="not_done")
    ).then(stuck(note, "exhausted"))
    spec.when(operated("retry", note)).then(asked(NOTE))
    last = [sent for sent in spec.sent if sent.kind == "do"][-1]
    assert last.attributes["round"] == "2"
    assert last.attributes["earlier"] == keys(spec, "do")[0]


def test_an_operators_not_done_is_never_taken_by_word_alone() -> None:
    """Rule 27: it goes through the fence."""
    spec = given(BY_POST, WANTED, replied(charge, Charged(receipt="B")))
    assert spec.state.activities["send_ticket"].status == "requested"
    spec.when(unanswered(send_ticket)).then(settling(send_ticket))
    spec.when(settled_not_done(send_ticket)).then(asked(NOTE))


def test_a_round_that_was_done_under_an_earlier_key_is_undone_under_that_key() -> None:
    """Rule 15: its undo names the key that really did it."""
    spec = given(TWO, WANTED, ROOM).when(unanswered(hold_car))
    earlier = "main:earlier:hold_car:1:0123456789abcdef"
    spec.when(settled_done(hold_car, DONE, done_key=earlier))
    [undo] = [sent for sent in spec.sent if sent.kind == "undo" and sent.attributes["activity"] == "hold_car"]
    assert undo.attributes["undoes"] == earlier


def test_a_fence_answer_without_outcome_to_a_fence_that_is_over_changes_nothing() -> None:
    """Rule 15: a late doubt is no doubt."""
    spec = given(TWO, WANTED, ROOM).when(unanswered(hold_car), in_doubt(hold_car), elapsed(minutes=5))
    before = types(spec)
    spec.when(answered_late(in_doubt(hold_car), attempt=1)).then_nothing()
    assert types(spec) == before


def test_the_start_of_these_tests_is_the_plain_one() -> None:
    """A baseline: both done, nothing settled."""
    spec = given(TWO, WANTED).then(asked(HOLD_ROOM)).when(ROOM, CAR)
    assert spec.state.phase == "completed"
    assert ended().fits(spec.outputs[-1])
    assert RoomHeld(room="R").room == "R"


# --- effects that evidence denied (rule 15)


def denied_and_gone_on(name: str) -> Spec:
    """Two people said that the room was not held; the saga went on by the path for it. The fence is still owed."""
    saga = Saga(name, version=1, starts_on=TripWanted, flow=[hold_room.on_exhausted(note), hold_car])
    spec = given(saga, WANTED).when(unanswered(hold_room), unanswered(hold_room))
    return spec.when(
        operated("settle", hold_room, by="ann", outcome="not_done"),
        operated("settle", hold_room, by="bob", outcome="not_done"),
    ).then(asked(NOTE))


FOUND = settled_done(hold_room, RoomHeld(room="R"))


def test_an_effect_found_while_the_saga_goes_on_is_work_that_survives_the_end() -> None:
    """Rule 15: it is told at once, and the end does not forget it."""
    spec = denied_and_gone_on("evidence_forward").when(FOUND).then(stuck(hold_room, "effect_found"))
    spec.when(replied(note, Noted()), CAR)
    assert spec.state.phase == "completed"
    assert list(spec.state.stuck) == ["!hold_room"]
    spec.when(operated("done", hold_room, reason="room given back by phone")).then_nothing()
    assert spec.state.stuck == {}


def test_an_effect_found_while_the_saga_goes_on_is_not_forgotten_when_it_turns_back() -> None:
    """Rule 15: the effect is taken back by the plan or by a person, and the saga does not end before."""
    spec = denied_and_gone_on("evidence_turned").when(FOUND)
    spec.when(replied(note, Noted()), refused(hold_car, "none"))
    assert "!hold_room" in spec.state.stuck or "hold_room" in [
        sent.attributes.get("activity") for sent in spec.sent[-1:]
    ]
    if spec.state.stuck:
        assert spec.state.phase == "compensating"
        spec.when(operated("done", hold_room, reason="room given back by phone"))
    assert spec.state.phase == "compensated"


def test_an_effect_without_undo_that_was_denied_is_told_and_not_planned() -> None:
    """Rule 15, rule 17: there is no undo that could be asked."""
    saga = Saga("evidence_no_undo", version=1, starts_on=TripWanted, flow=[hold_room, note])
    spec = given(saga, WANTED, ROOM, answer_undos=False).when(cancelled("ann", "enough"), unanswered(note))
    spec.when(
        operated("settle", note, by="ann", outcome="not_done"), operated("settle", note, by="bob", outcome="not_done")
    )
    spec.when(settled_done(note, Noted())).then(stuck(note, "effect_found"))
    assert "note" not in spec.undo_plan()


def test_a_pivot_that_was_denied_and_found_done_is_work_for_a_person() -> None:
    """Rule 15: a pivot has no undo; the saga has turned back by evidence."""
    spec = given(PIVOT, WANTED, ROOM, answer_undos=False).when(unanswered(charge), unanswered(charge))
    spec.when(
        operated("settle", charge, by="ann", outcome="not_done"),
        operated("settle", charge, by="bob", outcome="not_done"),
    ).then(asked(FREE_ROOM))
    spec.when(settled_done(charge, Charged(receipt="B"))).then(stuck(charge, "effect_found"))
    assert spec.undo_plan() == []


def to_be_redone(name: str) -> Spec:
    """Two people said that the room was held, and the participant says that it was not; the saga goes on."""
    saga = Saga(name, version=1, starts_on=TripWanted, flow=[hold_room.on_exhausted(note), hold_car])
    spec = given(saga, WANTED).when(unanswered(hold_room), unanswered(hold_room))
    acts = [operated("settle", hold_room, by=by, outcome="done", data=RoomHeld(room="R")) for by in ("ann", "bob")]
    return spec.when(*acts, settled_not_done(hold_room))


def test_a_redo_that_was_found_while_the_saga_goes_on_survives_its_good_end() -> None:
    """Rule 15: it should stand."""
    spec = to_be_redone("evidence_redo_end").when(CAR)
    assert spec.state.phase == "completed"
    assert list(spec.state.stuck) == ["!hold_room"]


def test_a_redo_of_what_will_be_undone_anyway_is_no_work() -> None:
    """Rule 15: the saga turns back."""
    spec = to_be_redone("evidence_moot").when(refused(hold_car, "none")).then(asked(FREE_ROOM), compensated("none"))
    assert spec.state.stuck == {}
