"""The specification library itself: what it says when a specification is wrong, and what it notices by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from time import perf_counter

import pytest

from orchestrator import Saga, for_each, leave, parallel, pivot, repeat, scope, step, wait_for, when
from orchestrator.testing import (
    APPROVE,
    KernelError,
    SpecificationError,
    answered_late,
    arrived,
    asked,
    awaits,
    cancelled,
    compensated,
    decided,
    elapsed,
    ended,
    given,
    opened,
    operated,
    refused,
    replied,
    settled_done,
    settling,
    started,
    stuck,
    unanswered,
    undone,
)
from tests.kernel.hotels import BOOK, HELD, HOLD, HOTEL, Booked, HotelSaidYes, TellHotel, book_hotel, tell_slow
from tests.kernel.trips import (
    CAR,
    CHARGED,
    FREE_ROOM,
    HOLD_CAR,
    HOLD_ROOM,
    ROOM,
    WANTED,
    HoldRoom,
    Note,
    Noted,
    RoomHeld,
    TripChanged,
    TripToApprove,
    TripWanted,
    TripWithdrawn,
    approve,
    charge,
    hold_car,
    hold_room,
    hold_seat,
    note,
    send_ticket,
)

TWO = Saga("spec_two", version=1, starts_on=TripWanted, flow=[hold_room, hold_car])
TASK = Saga("spec_task", version=1, starts_on=TripWanted, flow=[approve])


def stops(wanted: TripWanted) -> list[int]:
    return list(range(wanted.stops))


@step(undo=None)
def tell_stop(stop: int) -> Note:
    return Note(trip=f"{stop}")


STOPS = Saga("spec_stops", version=1, starts_on=TripWanted, flow=[for_each(stops, tell_stop, at_once=2)])


def test_a_mismatch_prints_expected_and_got_one_output_per_line() -> None:
    """What differs is marked; what is common is not."""
    spec = given(TWO, WANTED, ROOM)
    with pytest.raises(AssertionError) as error:
        spec.when(refused(hold_car, "none")).then(asked(HOLD_ROOM), compensated("none"))
    assert str(error.value).splitlines() == [
        "saga spec_two v1 did something else",
        "expected",
        "  - asked(HoldRoom(trip='t-1'))",
        "    compensated('none')",
        "got",
        "  + asked(FreeRoom(room='R'))",
        "    compensated('none')",
    ]


def test_a_mismatch_with_nothing_says_nothing() -> None:
    """then_nothing, and nothing where something was expected."""
    with pytest.raises(AssertionError, match=r"expected\n    nothing\ngot\n  \+ asked"):
        given(TWO, WANTED).when(ROOM).then_nothing()
    with pytest.raises(AssertionError, match=r"- ended\('completed'\)\ngot\n    nothing"):
        given(TASK, WANTED).when(elapsed(hours=1)).then(ended())


def test_the_order_of_outputs_matters() -> None:
    """Commands to participants are in decision order."""
    saga = Saga("spec_order", version=1, starts_on=TripWanted, flow=[parallel(hold_room, hold_car)])
    given(saga, WANTED).then(asked(HOLD_ROOM), asked(HOLD_CAR))
    with pytest.raises(AssertionError):
        given(saga, WANTED).then(asked(HOLD_CAR), asked(HOLD_ROOM))


def test_an_answer_to_a_step_that_is_not_in_flight_is_an_error_of_the_specification() -> None:
    """It says what the step is doing, and what is under way instead."""
    spec = given(TWO, WANTED, ROOM)
    with pytest.raises(SpecificationError, match=r"hold_room is not one that waits for an answer \(.*succeeded\)"):
        spec.when(ROOM)
    with pytest.raises(SpecificationError, match="hold_car: requested"):
        spec.when(ROOM)
    with pytest.raises(SpecificationError, match="hold_seat has not been reached"):
        spec.when(refused(hold_seat))
    with pytest.raises(SpecificationError, match="is not one that is being settled"):
        spec.when(settled_done(hold_room, RoomHeld(room="R")))
    with pytest.raises(SpecificationError, match="is not one that is being undone"):
        spec.when(undone(hold_room))


def test_a_late_answer_says_that_it_is_late() -> None:
    """answered_late(…): nothing waits for it, on purpose."""
    given(TWO, WANTED, ROOM).when(answered_late(ROOM)).then_nothing()


def test_one_of_several_runs_is_chosen_by_at() -> None:
    """Nothing is guessed."""
    spec = given(STOPS, TripWanted(trip="t-1", stops=2))
    with pytest.raises(SpecificationError, match=r"\(stops\[0\]/tell_stop, stops\[1\]/tell_stop\): say at="):
        spec.when(replied(tell_stop, Noted()))
    spec.when(replied(tell_stop, Noted(), at=1)).when(replied(tell_stop, Noted())).then(ended())


def test_at_is_compared_only_where_it_is_said() -> None:
    """asked(…) fits every item, asked(…, at=1) only one."""
    given(STOPS, TripWanted(trip="t-1", stops=1)).then(asked(Note(trip="0")))
    given(STOPS, TripWanted(trip="t-1", stops=1)).then(asked(Note(trip="0"), at=0))
    with pytest.raises(AssertionError):
        given(STOPS, TripWanted(trip="t-1", stops=1)).then(asked(Note(trip="0"), at=1))


def test_what_is_given_may_not_be_refused() -> None:
    """A wrong past makes every future meaningless."""
    with pytest.raises(SpecificationError, match=r"given: .* was refused: ended"):
        given(TWO, WANTED, ROOM, CAR, cancelled("ann", "late"))


def test_a_saga_starts_only_on_its_own_messages() -> None:
    """The text names both."""
    with pytest.raises(SpecificationError, match=r"spec_two starts on trips\.TripWanted, not on trips\.TripWithdrawn"):
        given(TWO, TripWithdrawn(trip="t-1"))


def test_silence_after_the_pivot_has_no_end() -> None:
    """unanswered(…) says so instead of running for ever."""
    saga = Saga("spec_pivot", version=1, starts_on=TripWanted, flow=[pivot(charge), send_ticket])
    with pytest.raises(SpecificationError, match=r"asked until it is done: say elapsed"):
        given(saga, WANTED, CHARGED).when(unanswered(send_ticket))


def test_silence_of_a_child_without_a_limit_leads_to_nothing() -> None:
    """It says so."""
    saga = Saga("spec_child", version=1, starts_on=TripWanted, flow=[book_hotel])
    with pytest.raises(SpecificationError, match="no time limit"):
        given(saga, WANTED).when(unanswered(book_hotel))


def test_a_place_that_is_not_stuck_cannot_be_operated() -> None:
    """The text lists the places that are."""
    with pytest.raises(SpecificationError, match="hold_room is not stuck; stuck places: none"):
        given(TWO, WANTED).when(operated("retry", hold_room))


def test_a_function_that_is_not_pure_is_noticed() -> None:
    """Deciding again must give the same records; the text says what to look for."""
    numbers = count()

    @step(undo=None)
    def tell(wanted: TripWanted) -> Note:
        return Note(trip=f"{next(numbers)}")

    saga = Saga("spec_impure", version=1, starts_on=TripWanted, flow=[tell])
    with pytest.raises(KernelError, match="a clock, chance, a counter"):
        given(saga, WANTED)


def test_what_a_specification_can_look_at() -> None:
    """records, state, sent, outputs, undo_plan()."""
    spec = given(TWO, WANTED, ROOM)
    assert [record.type for record in spec.records] == [
        "saga.started",
        "step.requested",
        "step.succeeded",
        "step.requested",
    ]
    assert spec.state.activities["hold_room"].result == {"room": "R"}
    assert [sent.type for sent in spec.sent] == ["trips.HoldRoom", "trips.HoldCar"]
    assert spec.undo_plan() == ["hold_room"]
    assert [output.kind for output in spec.when(CAR).outputs] == ["ended"]


def test_undos_are_answered_by_themselves_unless_the_specification_says_otherwise() -> None:
    """answer_undos=False."""
    given(TWO, WANTED, ROOM).when(refused(hold_car)).then(asked(FREE_ROOM), compensated("refused"))
    spec = given(TWO, WANTED, ROOM, answer_undos=False).when(refused(hold_car)).then(asked(FREE_ROOM))
    spec.when(undone(hold_room)).then(compensated("refused"))


def test_children_really_run_unless_the_specification_answers_for_them() -> None:
    """A reply to the call takes the child's place, from then on."""
    saga = Saga("spec_children", version=1, starts_on=TripWanted, flow=[book_hotel, hold_car])
    spec = given(saga, WANTED).then(asked(BOOK), asked(HOLD))
    assert spec.child(HOTEL).now_state.phase == "forward"
    spec.when(replied(book_hotel, Booked(room="R"))).then(asked(HOLD_CAR))
    with pytest.raises(SpecificationError, match="child_room has not been reached"):
        spec.when(HELD)
    stubbed = given(saga, WANTED, run_children=False).then(asked(BOOK))
    stubbed.when(refused(book_hotel, "full")).then(compensated("full"))
    with pytest.raises(SpecificationError, match="no hotel v1 was called"):
        given(TWO, WANTED).child(HOTEL)


def test_a_stubbed_child_that_is_undone_answers_by_itself() -> None:
    """Like every undo."""
    saga = Saga("spec_stubbed", version=1, starts_on=TripWanted, flow=[book_hotel, hold_car])
    spec = given(saga, WANTED, replied(book_hotel, Booked(room="R")), run_children=False).when(refused(hold_car))
    assert [output.kind for output in spec.outputs] == ["unwinding", "compensated"]


def test_time_fires_what_comes_due_in_order() -> None:
    """elapsed(hours=…)."""
    both = parallel(approve, tell_slow.on_timeout().on_refused())
    saga = Saga("spec_time", version=1, starts_on=TripWanted, flow=[both])
    spec = given(saga, WANTED).then(opened(approve), asked(TellHotel(telling="b")), awaits(HotelSaidYes))
    spec.when(elapsed(days=2))
    kinds = [output.kind for output in spec.outputs]
    assert kinds == ["settling", "compensated hotel_slow", "compensated"]


def test_the_clock_begins_when_the_specification_says() -> None:
    """given(…, now=…)."""
    spec = given(TWO, WANTED, now=datetime(2030, 1, 1, tzinfo=UTC))
    assert spec.state.started_at // 1_000_000 == int(datetime(2030, 1, 1, tzinfo=UTC).timestamp())


def test_an_event_id_that_comes_twice_is_taken_twice_only_if_it_is_another_event() -> None:
    """The inbox is the store's; here each arrived(…) is an event of its own."""
    body = repeat(wait_for(TripChanged, within=timedelta(days=1), early=False), when(_second, leave()), at_most=3)
    saga = Saga("spec_events", version=1, starts_on=TripWanted, flow=[body])
    spec = given(saga, WANTED).when(arrived(TripChanged(trip="t-1"))).then(awaits(TripChanged, at=1))
    spec.when(arrived(TripChanged(trip="t-1"))).then(ended())


def _second(changes: list[TripChanged]) -> bool:
    return len(changes) == 2


def test_a_stuck_place_prints_its_reason() -> None:
    """So that a mismatch explains itself."""

    @step(undo=None)
    def broken(wanted: TripWanted) -> HoldRoom:
        raise RuntimeError("no such room")

    saga = Saga("spec_stuck", version=1, starts_on=TripWanted, flow=[broken])
    with pytest.raises(
        AssertionError, match=r"stuck\(broken, 'function'\)  # broken raised RuntimeError: no such room"
    ):
        given(saga, WANTED).then(ended())
    given(saga, WANTED).then(stuck(broken)).when(operated("value", broken, data={"trip": "t-1"})).then(asked(HOLD_ROOM))


def test_what_people_see_can_be_part_of_the_expectation() -> None:
    """opened(task, shown)."""
    given(TASK, WANTED).then(opened(approve, TripToApprove(trip="t-1")))
    with pytest.raises(AssertionError, match="opened"):
        given(TASK, WANTED).then(opened(approve, TripToApprove(trip="t-2")))


def test_the_start_may_come_again() -> None:
    """started(…)."""
    given(TASK, WANTED).when(started(WANTED)).then_nothing().when(decided(approve, APPROVE, by="max")).then(ended())


def test_a_specification_takes_about_a_millisecond() -> None:
    """Hundreds of them run while one thinks; the limit is generous because machines differ."""
    assert min(_seconds() for _ in range(20)) < 0.02


def _seconds() -> float:
    begun = perf_counter()
    given(TWO, WANTED, ROOM).when(refused(hold_car)).then(asked(FREE_ROOM), compensated("refused"))
    return perf_counter() - begun


def test_a_scope_that_settles_shows_it() -> None:
    """settling(…) of a step inside."""
    saga = Saga("spec_scope", version=1, starts_on=TripWanted, flow=[scope(note).on_event(TripWithdrawn)])
    given(saga, WANTED).when(arrived(TripWithdrawn(trip="t-1"))).then(settling(note))
