"""Rules 8-12: answers to what was asked, giving up, late answers, user functions that raise."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator import Retry, Saga, end, parallel, pivot, step, wait_for
from orchestrator.testing import (
    answered_late,
    arrived,
    asked,
    awaits,
    cancelled,
    compensated,
    elapsed,
    ended,
    errored,
    given,
    operated,
    published,
    refused,
    replied,
    settled_done,
    settled_not_done,
    settled_refused,
    settling,
    stuck,
    unanswered,
)
from tests.kernel.trips import (
    CAR,
    CHARGE,
    CHARGED,
    FREE_CAR,
    FREE_ROOM,
    HOLD_CAR,
    ONCE,
    ROOM,
    SEND_TICKET,
    TICKET,
    WANTED,
    Charge,
    Charged,
    HoldRoom,
    Note,
    Noted,
    RoomHeld,
    SendTicket,
    TicketSent,
    TripBooked,
    TripWanted,
    TripWithdrawn,
    charge,
    hold_car,
    hold_room,
    keys,
    note,
    of,
    rate,
    send_ticket,
    telling_success,
    types,
)

TWO = Saga("doing_two", version=1, starts_on=TripWanted, flow=[hold_room, hold_car])
PIVOT = Saga("doing_pivot", version=1, starts_on=TripWanted, flow=[hold_room, pivot(charge), send_ticket])


def test_ok_is_definite_for_the_round_whatever_attempt_it_answers() -> None:
    """Rule 8: attempt 1 answers while attempt 2 is under way."""
    spec = given(TWO, WANTED).when(elapsed(seconds=31))
    assert spec.state.activities["hold_room"].attempt == 2
    spec.when(answered_late(ROOM, attempt=1)).then(asked(HOLD_CAR))


def test_refused_is_definite_for_the_round_whatever_attempt_it_answers() -> None:
    """Rule 8."""
    spec = given(TWO, WANTED).when(elapsed(seconds=31))
    spec.when(answered_late(refused(hold_room, "full"), attempt=1)).then(compensated("full"))


def test_ok_counts_during_the_pause_before_the_next_attempt() -> None:
    """Rule 8: also in backoff."""
    spec = given(TWO, WANTED).when(errored(hold_room))
    assert spec.state.activities["hold_room"].status == "backoff"
    spec.when(ROOM).then(asked(HOLD_CAR))
    spec.when(elapsed(seconds=20)).then_nothing()


def test_ok_counts_after_giving_up_while_the_fence_is_under_way() -> None:
    """Rule 8: the answer to the command settles what the fence asks for."""
    spec = given(TWO, WANTED, ROOM).when(unanswered(hold_car)).then(settling(hold_car))
    spec.when(CAR).then(asked(FREE_CAR), asked(FREE_ROOM), compensated("no answer in time"))


def test_refused_counts_during_compensation_before_the_plan() -> None:
    """Rule 8: then there is nothing to undo for it."""
    spec = given(TWO, WANTED, ROOM).when(cancelled("ann", "changed her mind")).then(settling(hold_car))
    spec.when(refused(hold_car)).then(asked(FREE_ROOM), compensated("cancelled by ann: changed her mind"))


def test_an_error_is_not_definite_and_is_asked_again() -> None:
    """Rule 8."""
    spec = given(TWO, WANTED).when(errored(hold_room, "hotel is down")).then_nothing()
    spec.when(elapsed(seconds=1)).then_nothing()
    assert [record.data["attempt"] for record in of(spec, "step.requested")] == [1, 2]


def test_a_late_error_of_one_attempt_does_not_burn_the_next() -> None:
    """Rule 8: it counts only against the attempt that it answers, while that attempt waits."""
    spec = given(TWO, WANTED).when(elapsed(seconds=31))
    before = types(spec)
    spec.when(answered_late(errored(hold_room), attempt=1))
    assert types(spec) == before


def test_an_error_during_the_pause_changes_nothing() -> None:
    """Rule 8: the same error delivered twice."""
    spec = given(TWO, WANTED).when(errored(hold_room))
    before = types(spec)
    spec.when(answered_late(errored(hold_room), attempt=1))
    assert types(spec) == before


def test_an_answer_of_an_earlier_round_settles_nothing_of_the_next() -> None:
    """Rule 8: definite for its round."""
    spec = given(PIVOT, WANTED, ROOM, CHARGED, refused(send_ticket), operated("retry", send_ticket))
    spec.when(answered_late(TICKET, round=1)).then_nothing()
    assert spec.state.activities["send_ticket"].status == "requested"


def test_the_policy_counts_afresh_after_an_operators_retry() -> None:
    """Rule 9: attempts are counted from a base."""
    spec = given(PIVOT, WANTED, ROOM, forward_only=False).when(unanswered(charge)).then(settling(charge))
    spec.when(unanswered(charge)).then(stuck(charge, "unknown"))
    before = len(of(spec, "fence.requested"))
    spec.when(operated("retry", charge)).then(settling(charge))
    spec.when(unanswered(charge)).then(stuck(charge, "unknown"))
    assert len(of(spec, "fence.requested")) == 2 * before


def test_a_step_that_an_operator_retries_has_all_its_attempts_again() -> None:
    """Rule 9."""
    saga = Saga("doing_afresh", version=1, starts_on=TripWanted, flow=[hold_room], on_failed=[note])
    spec = given(saga, WANTED, refused(hold_room)).when(unanswered(note)).then(stuck(note, "exhausted"))
    spec.when(operated("retry", note)).then(asked(Note(trip="t-1")))
    spec.when(unanswered(note)).then(stuck(note, "exhausted"))
    attempts = [record.data["attempt"] for record in of(spec, "step.requested") if record.activity.endswith("note")]
    assert attempts == [1, 2, 3, 4, 5, 6]


def test_the_clock_of_an_attempt_starts_when_its_command_is_published() -> None:
    """Rule 9: the timer names the command whose publication counts, so an outage of the broker burns no attempt."""
    spec = given(TWO, WANTED)
    [timer] = spec.world.main.timers.values()
    assert timer.command_version == of(spec, "step.requested")[0].data["attempt"] + 1 == 2


def test_a_step_that_is_given_up_fails_the_saga_and_is_settled() -> None:
    """Rule 10, rule 16: silence is no answer."""
    spec = given(TWO, WANTED, ROOM).when(unanswered(hold_car)).then(settling(hold_car))
    assert len(keys(spec, "do")) == 1 + 3
    spec.when(settled_not_done(hold_car)).then(asked(FREE_ROOM), compensated("no answer in time"))


def test_a_pivot_that_is_given_up_is_settled_before_anything_turns_back() -> None:
    """Rule 10: it might have happened."""
    spec = given(PIVOT, WANTED, ROOM).when(unanswered(charge)).then(settling(charge))
    assert spec.state.phase == "forward"
    spec.when(settled_done(charge, Charged(receipt="B"))).then(asked(SEND_TICKET))


def test_a_pivot_that_is_given_up_and_was_not_done_turns_the_saga_back() -> None:
    """Rule 10."""
    spec = given(PIVOT, WANTED, ROOM).when(unanswered(charge))
    spec.when(settled_not_done(charge)).then(
        asked(FREE_ROOM), compensated("gave up after 3 attempts; settled as not done")
    )


def test_a_step_with_a_path_for_giving_up_is_settled_and_takes_it() -> None:
    """Rule 10: on_exhausted."""
    saga = Saga(
        "doing_exhausted", version=1, starts_on=TripWanted, flow=[hold_room.on_exhausted(end("no room")), hold_car]
    )
    spec = given(saga, WANTED).when(unanswered(hold_room)).then(settling(hold_room))
    spec.when(settled_not_done(hold_room)).then(ended("no room"))


def test_a_step_with_a_path_for_giving_up_goes_on_where_it_was_done_after_all() -> None:
    """Rule 10: the fence may answer ok."""
    saga = Saga("doing_exhausted2", version=1, starts_on=TripWanted, flow=[hold_room.on_exhausted(end("no")), hold_car])
    spec = given(saga, WANTED).when(unanswered(hold_room))
    spec.when(settled_done(hold_room, RoomHeld(room="R"))).then(asked(HOLD_CAR))


@pytest.mark.parametrize("answer", [settled_refused(hold_room, "full"), refused(hold_room, "full")])
def test_a_refusal_that_comes_after_giving_up_takes_the_path_of_refusals(answer: object) -> None:
    """Rule 8, rule 10: the participant's no is a business no, however late it is."""
    saga = Saga(
        "doing_exhausted3",
        version=1,
        starts_on=TripWanted,
        flow=[hold_room.on_exhausted(end("gave up")).on_refused(end("full")), hold_car],
    )
    given(saga, WANTED, unanswered(hold_room)).when(answer).then(ended("full"))  # type: ignore[arg-type]


def test_a_business_no_takes_its_own_path_and_undoes_nothing() -> None:
    """Rule 10, rule 16: refused with a path."""
    saga = Saga("doing_refused", version=1, starts_on=TripWanted, flow=[hold_room, hold_car.on_refused(), note])
    spec = given(saga, WANTED, ROOM).when(refused(hold_car)).then(asked(Note(trip="t-1")))
    assert spec.undo_plan() == ["hold_room"]


def test_after_the_pivot_a_step_is_asked_until_it_is_done() -> None:
    """Rule 10: retriable, with a ceiling, and no giving up."""
    spec = given(PIVOT, WANTED, ROOM, CHARGED).when(elapsed(hours=3)).then_nothing()
    asked_again = of(spec, "step.requested")[2:]
    assert len(asked_again) > 50
    timed_out = of(spec, "step.timed_out")
    pauses = [record.data["due"] for record in timed_out]
    assert all(pauses), "every attempt is followed by another"
    spec.when(TICKET).then(ended())


def test_after_the_pivot_a_step_that_is_not_done_for_long_raises_an_alarm() -> None:
    """Rule 10: visible after so many attempts."""
    spec = given(PIVOT, WANTED, ROOM, CHARGED).when(elapsed(hours=1))
    alarms = [bool(record.data.get("alarm")) for record in of(spec, "step.timed_out")]
    assert alarms[0] is False
    assert alarms[-1] is True


def test_after_the_pivot_a_step_gives_up_only_where_the_author_wrote_a_path() -> None:
    """Rule 10."""
    saga = Saga(
        "doing_after",
        version=1,
        starts_on=TripWanted,
        flow=[pivot(charge), send_ticket.on_exhausted(end("by post")).on_refused(end("by post"))],
    )
    spec = given(saga, WANTED, CHARGED).when(unanswered(send_ticket)).then(settling(send_ticket))
    spec.when(settled_not_done(send_ticket)).then(ended("by post"))


def test_a_step_that_only_reads_is_given_up_without_a_fence() -> None:
    """Rule 13: it has no effect, so there is nothing to settle."""
    saga = Saga("doing_reads", version=1, starts_on=TripWanted, flow=[hold_room, rate, hold_car])
    given(saga, WANTED, ROOM).when(unanswered(rate)).then(asked(FREE_ROOM), compensated("no answer in time"))


def test_a_definite_answer_that_nothing_waits_for_is_recorded() -> None:
    """Rule 11."""
    spec = given(TWO, WANTED, ROOM).when(answered_late(ROOM)).then_nothing()
    assert types(spec)[-1] == "reply.late"


def test_an_answer_that_contradicts_the_recorded_outcome_is_recorded_as_that() -> None:
    """Rule 11: it raises an alarm."""
    spec = given(TWO, WANTED, ROOM).when(answered_late(refused(hold_room))).then_nothing()
    assert types(spec)[-1] == "reply.contradicted"
    spec.when(refused(hold_car))
    spec.when(answered_late(CAR))
    assert types(spec)[-1] == "reply.contradicted"


def test_an_answer_after_the_end_is_recorded() -> None:
    """Rule 11, V10: terminal is final, and nothing definite is dropped."""
    spec = given(TWO, WANTED, ROOM, CAR).when(answered_late(refused(hold_car)))
    assert types(spec)[-2:] == ["saga.completed", "reply.contradicted"]
    assert spec.state.phase == "completed"


def test_a_stuck_saga_still_takes_definite_answers() -> None:
    """Rule 11: another branch goes on."""

    @step(undo=None)
    def hold_badly(wanted: TripWanted) -> Note:
        raise RuntimeError("no such desk")

    saga = Saga("doing_stuck", version=1, starts_on=TripWanted, flow=[parallel([hold_badly], [hold_room, hold_car])])
    spec = given(saga, WANTED).then(stuck(hold_badly, "function"), asked(HoldRoom(trip="t-1")))
    spec.when(ROOM).then(asked(HOLD_CAR))


def test_a_function_that_raises_makes_its_place_stuck_with_the_reason() -> None:
    """Rule 12, V14: the operator sees what the function said."""

    @step(undo=None)
    def hold_badly(wanted: TripWanted) -> Note:
        raise RuntimeError("no such desk")

    saga = Saga("doing_raises", version=1, starts_on=TripWanted, flow=[hold_badly, hold_car])
    spec = given(saga, WANTED).then(stuck(hold_badly, "function"))
    [place] = spec.state.stuck.values()
    assert "hold_badly raised RuntimeError: no such desk" in place.reason
    assert "no such desk" in place.reason


def test_a_retry_of_a_place_that_is_stuck_in_a_function_runs_it_again() -> None:
    """Rule 12: after a new deployment."""
    code = {"broken": True}

    @step(undo=None)
    def tell(wanted: TripWanted) -> Note:
        if code["broken"]:
            raise RuntimeError("not deployed yet")
        return Note(trip=wanted.trip)

    saga = Saga("doing_mended", version=1, starts_on=TripWanted, flow=[tell, telling_success])
    spec = given(saga, WANTED)
    spec.when(operated("retry", tell)).then(stuck(tell))
    code["broken"] = False
    spec.when(operated("retry", tell)).then(asked(Note(trip="t-1")))
    spec.when(replied(tell, Noted())).then(published(TripBooked(trip="t-1")), ended())


def test_a_function_that_raises_after_the_pivot_undoes_nothing() -> None:
    """Rule 12, rule 16a."""

    @step(undo=None)
    def send_badly(charged: Charged) -> SendTicket:
        raise ValueError(charged.receipt)

    saga = Saga("doing_raises_after", version=1, starts_on=TripWanted, flow=[hold_room, pivot(charge), send_badly])
    spec = given(saga, WANTED, ROOM).when(CHARGED).then(stuck(send_badly))
    assert spec.undo_plan() == []


def test_a_saga_that_is_stuck_in_a_function_can_still_be_cancelled() -> None:
    """Rule 16c: stuck marks go when the saga turns back."""

    @step(undo=None)
    def tell_badly(wanted: TripWanted) -> Note:
        raise RuntimeError("no")

    saga = Saga("doing_cancelled", version=1, starts_on=TripWanted, flow=[hold_room, tell_badly])
    spec = given(saga, WANTED, ROOM).when(cancelled("ann", "enough"))
    spec.then(asked(FREE_ROOM), compensated("cancelled by ann: enough"))
    assert spec.state.stuck == {}


def test_one_attempt_means_one() -> None:
    """Rule 9: the first attempt counts."""

    @step(retry=ONCE, undo=None)
    def tell_once(wanted: TripWanted) -> Note:
        return Note(trip=wanted.trip)

    saga = Saga("doing_once", version=1, starts_on=TripWanted, flow=[hold_room, tell_once])
    spec = given(saga, WANTED, ROOM).when(errored(tell_once, "down")).then(settling(tell_once), asked(FREE_ROOM))
    assert len(keys(spec, "do")) == 2


def test_pauses_grow_to_the_ceiling() -> None:
    """Rule 9: first, factor, ceiling."""
    policy = Retry(attempts=6, first=timedelta(seconds=1), factor=3.0, ceiling=timedelta(seconds=10), jitter=0.0)

    @step(retry=policy, undo=None)
    def tell_slowly(wanted: TripWanted) -> Note:
        return Note(trip=wanted.trip)

    saga = Saga("doing_ceiling", version=1, starts_on=TripWanted, flow=[tell_slowly])
    spec = given(saga, WANTED)
    pauses = []
    for _ in range(5):
        spec.when(errored(tell_slowly))
        pauses.append((of(spec, "step.failed")[-1].data["due"] - spec.world.clock) / 1_000_000)
        spec.when(elapsed(seconds=10))
    assert pauses == [1, 3, 9, 10, 10]


def test_a_wait_beside_a_retrying_step_is_not_disturbed() -> None:
    """Rule 5: timers belong to activities."""
    waiting = wait_for(TripWithdrawn, within=timedelta(days=1)).on_timeout()
    saga = Saga("doing_beside", version=1, starts_on=TripWanted, flow=[parallel(hold_room, waiting)])
    spec = given(saga, WANTED).then(asked(HoldRoom(trip="t-1")), awaits(TripWithdrawn))
    spec.when(elapsed(seconds=31), ROOM, arrived(TripWithdrawn(trip="t-1"))).then(ended())


def test_the_vocabulary_of_these_tests_asks_what_it_says() -> None:
    """A linear saga from start to end, as a baseline for the rest."""
    given(PIVOT, WANTED).then(asked(HoldRoom(trip="t-1"))).when(ROOM).then(asked(CHARGE)).when(CHARGED).then(
        asked(SEND_TICKET)
    ).when(replied(send_ticket, TicketSent(ticket="T"))).then(ended())
    assert (Charge.participant, note.name) == ("bank", "note")
