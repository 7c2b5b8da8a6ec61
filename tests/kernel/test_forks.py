"""Forks, loops, joins, the life cycle, events that go out, ends: control flow as sentences."""

from __future__ import annotations

from enum import Enum
from typing import Literal

import pytest

from orchestrator import (
    Reply,
    Saga,
    choose,
    compute,
    end,
    enter,
    fail,
    for_each,
    leave,
    parallel,
    pivot,
    publish,
    repeat,
    scope,
    step,
    when,
)
from orchestrator.kernel.api import advance
from orchestrator.kernel.inputs import Cancel, Start
from orchestrator.testing import (
    APPROVE,
    asked,
    compensated,
    decided,
    ended,
    entered,
    given,
    opened,
    published,
    refused,
    replied,
    stuck,
)
from tests.kernel.trips import (
    CAR,
    CHARGED,
    FREE_ROOM,
    HOLD_CAR,
    HOLD_ROOM,
    HOLD_SEAT,
    NOTE,
    NOTED,
    ROOM,
    SEAT,
    SEND_TICKET,
    TICKET,
    WANTED,
    Note,
    Noted,
    TripBooked,
    TripFailed,
    TripWanted,
    approve,
    charge,
    hold_car,
    hold_room,
    hold_seat,
    note,
    of,
    send_ticket,
    telling_success,
    types,
)


def quick(wanted: TripWanted) -> bool:
    return wanted.quick


def stops(wanted: TripWanted) -> list[int]:
    return list(range(wanted.stops))


@step(undo=None)
def tell_stop(wanted: TripWanted, stop: int) -> Note:
    return Note(trip=f"{wanted.trip}/{stop}")


def test_a_condition_takes_its_path_or_the_other() -> None:
    """when, otherwise."""
    fork = when(quick, hold_room).otherwise(hold_car)
    saga = Saga("forks_when", version=1, starts_on=TripWanted, flow=[fork, note])
    given(saga, TripWanted(trip="t-1", quick=True)).then(asked(HOLD_ROOM)).when(ROOM).then(asked(NOTE))
    given(saga, WANTED).then(asked(HOLD_CAR)).when(CAR).then(asked(NOTE))


def test_a_condition_without_another_path_goes_on() -> None:
    """when."""
    saga = Saga("forks_only", version=1, starts_on=TripWanted, flow=[when(quick, hold_room), note])
    given(saga, WANTED).then(asked(NOTE))


def test_a_condition_may_ask_whether_a_result_is_there() -> None:
    """when(type)."""
    flow = [when(quick, note), when(Noted, hold_room).otherwise(hold_car)]
    saga = Saga("forks_there", version=1, starts_on=TripWanted, flow=flow)
    given(saga, WANTED).then(asked(HOLD_CAR))
    given(saga, TripWanted(trip="t-1", quick=True)).when(NOTED).then(asked(HOLD_ROOM))


class Size(Enum):
    """How many stops."""

    NONE = "none"
    FEW = "few"
    MANY = "many"


def size(wanted: TripWanted) -> Size:
    return Size.NONE if not wanted.stops else Size.FEW if wanted.stops < 5 else Size.MANY


def label(wanted: TripWanted) -> Literal["a", "b"]:
    return "a" if wanted.quick else "b"


@pytest.mark.parametrize(("number", "expected"), [(0, HOLD_ROOM), (3, HOLD_CAR), (9, HOLD_SEAT)])
def test_a_choice_takes_the_path_of_its_value(number: int, expected: object) -> None:
    """choose over an Enum."""
    fork = choose(size).on(Size.NONE, hold_room).on([Size.FEW], hold_car).otherwise(hold_seat)
    saga = Saga("forks_choose", version=1, starts_on=TripWanted, flow=[fork])
    given(saga, TripWanted(trip="t-1", stops=number)).then(asked(expected))  # type: ignore[arg-type]


def test_a_choice_over_literals_and_booleans() -> None:
    """choose."""
    one = choose(label).on("a", hold_room).on("b", hold_car)
    two = choose(quick).on(True, note).on(False, hold_seat)
    saga = Saga("forks_literal", version=1, starts_on=TripWanted, flow=[one, two])
    given(saga, WANTED).then(asked(HOLD_CAR)).when(CAR).then(asked(HOLD_SEAT))
    given(saga, TripWanted(trip="t-1", quick=True)).then(asked(HOLD_ROOM)).when(ROOM).then(asked(NOTE))


def test_branches_run_side_by_side_and_join_when_all_have_ended() -> None:
    """Section 7: join on the first branch."""
    both = parallel([hold_room, hold_car], hold_seat)
    saga = Saga("forks_parallel", version=1, starts_on=TripWanted, flow=[both, note])
    spec = given(saga, WANTED).then(asked(HOLD_ROOM), asked(HOLD_SEAT))
    spec.when(SEAT).then_nothing()
    spec.when(ROOM).then(asked(HOLD_CAR))
    spec.when(CAR).then(asked(NOTE))


def test_items_start_as_many_at_once_as_the_author_says() -> None:
    """Section 7: at_once off by one."""
    saga = Saga("forks_at_once", version=1, starts_on=TripWanted, flow=[for_each(stops, tell_stop, at_once=2), note])
    spec = given(saga, TripWanted(trip="t-1", stops=4))
    spec.then(asked(Note(trip="t-1/0"), at=0), asked(Note(trip="t-1/1"), at=1))
    spec.when(replied(tell_stop, Noted(), at=1)).then(asked(Note(trip="t-1/2"), at=2))
    spec.when(replied(tell_stop, Noted(), at=0)).then(asked(Note(trip="t-1/3"), at=3))
    spec.when(replied(tell_stop, Noted(), at=3)).then_nothing()
    spec.when(replied(tell_stop, Noted(), at=2)).then(asked(NOTE))


def test_no_items_are_over_at_once() -> None:
    """for_each over an empty list."""
    saga = Saga("forks_empty", version=1, starts_on=TripWanted, flow=[for_each(stops, tell_stop), note])
    spec = given(saga, WANTED).then(asked(NOTE))
    assert spec.state.activities["stops"].status == "left", "it is not open any more"
    assert spec.state.joins == {}


def test_items_of_items() -> None:
    """at=(1, 0)."""

    def inner(wanted: TripWanted, stop: int) -> list[str]:
        return ["x", "y"]

    @step(undo=None)
    def tell_inner(stop: int, item: str) -> Note:
        return Note(trip=f"{stop}{item}")

    each = for_each(stops, for_each(inner, tell_inner, at_once=2), at_once=2)
    saga = Saga("forks_nested", version=1, starts_on=TripWanted, flow=[each, note])
    spec = given(saga, TripWanted(trip="t-1", stops=2))
    spec.when(replied(tell_inner, Noted(), at=(1, 0))).then_nothing()
    spec.when(replied(tell_inner, Noted(), at=(1, 1)), replied(tell_inner, Noted(), at=(0, 1))).then_nothing()
    spec.when(replied(tell_inner, Noted(), at=(0, 0))).then(asked(NOTE))


def test_a_loop_is_left_from_a_branch_of_its_round() -> None:
    """leave."""
    loop = repeat(hold_room, when(quick, leave()), at_most=3)
    saga = Saga("forks_leave", version=1, starts_on=TripWanted, flow=[loop, note])
    given(saga, TripWanted(trip="t-1", quick=True)).when(ROOM).then(asked(NOTE))
    spec = given(saga, WANTED).when(ROOM, ROOM).then(asked(HOLD_ROOM, at=1), asked(HOLD_ROOM, at=2))
    never_left = compensated("hold_room.repeat: 3 rounds, and never left")
    spec.when(ROOM).then(asked(FREE_ROOM), asked(FREE_ROOM), asked(FREE_ROOM), never_left)


class State(Enum):
    """The business life cycle."""

    NEW = "new"
    HELD = "held"
    PAID = "paid"


def test_the_life_cycle_moves_as_declared() -> None:
    """enter."""
    saga = Saga(
        "forks_states",
        version=1,
        starts_on=TripWanted,
        flow=[hold_room, enter(State.HELD), pivot(charge), enter(State.PAID)],
        states={State.NEW: [State.HELD], State.HELD: [State.PAID], State.PAID: []},
    )
    spec = given(saga, WANTED)
    assert spec.state.entered == "new"
    spec.when(ROOM).then(entered(State.HELD), asked(charge(WANTED)))
    spec.when(CHARGED).then(entered(State.PAID), ended())
    assert spec.state.entered == "paid"


def test_an_event_goes_out_through_the_outbox_with_its_own_key() -> None:
    """publish."""
    saga = Saga("forks_publish", version=1, starts_on=TripWanted, flow=[telling_success])
    spec = given(saga, WANTED).then(published(TripBooked(trip="t-1")), ended())
    [sent] = spec.sent
    assert (sent.kind, sent.target, sent.key, sent.type) == ("event", "trips.events", "t-1", "trips.TripBooked")


def test_an_end_says_how_the_saga_ended() -> None:
    """end."""

    class Sum(Reply):
        """What a caller would get."""

        room: str

    def result(wanted: TripWanted) -> Sum:
        return Sum(room=wanted.trip)

    saga = Saga("forks_end", version=1, starts_on=TripWanted, flow=[when(quick, end("quick", result)), note])
    given(saga, TripWanted(trip="t-1", quick=True)).then(ended("quick", Sum(room="t-1")))
    given(saga, WANTED).when(NOTED).then(ended("completed"))


def test_a_path_that_follows_only_success() -> None:
    """then of a step."""
    first = hold_room.then(hold_car).on_refused(note)
    saga = Saga("forks_then", version=1, starts_on=TripWanted, flow=[first, hold_seat])
    given(saga, WANTED).when(ROOM).then(asked(HOLD_CAR)).when(CAR).then(asked(HOLD_SEAT))
    given(saga, WANTED).when(refused(hold_room)).then(asked(NOTE)).when(NOTED).then(asked(HOLD_SEAT))


def forward_only_fail() -> Saga[TripWanted]:
    return Saga("forks_forward2", version=1, starts_on=TripWanted, flow=[hold_room, when(quick, fail("no")), note])


def test_a_fail_where_only_forward_is_left_is_stuck_once() -> None:
    """Rule 16a: the token waits with its place."""
    spec = given(forward_only_fail(), TripWanted(trip="t-1", quick=True), forward_only=True).when(ROOM)
    spec.then(stuck("fail", "failed"))
    assert len(of(spec, "saga.stuck")) == 1


def test_a_failure_of_one_item_fails_the_saga_and_settles_the_rest() -> None:
    """Rule 16c."""
    flow = [hold_room, for_each(stops, tell_stop, at_once=3)]
    saga = Saga("forks_item_fails", version=1, starts_on=TripWanted, flow=flow)
    spec = given(saga, TripWanted(trip="t-1", stops=3), ROOM).when(refused(tell_stop, at=1))
    assert [output.kind for output in spec.outputs] == ["settling", "settling", "asked"]


def test_computed_values_are_recorded_once() -> None:
    """compute."""
    code = {"version": 1}

    def version(wanted: TripWanted) -> int:
        return code["version"]

    def tell(wanted: TripWanted, version: int) -> TripFailed:
        return TripFailed(trip=wanted.trip, reason=f"{version}")

    saga = Saga("forks_compute", version=1, starts_on=TripWanted, flow=[compute(version), note, publish(tell)])
    spec = given(saga, WANTED)
    code["version"] = 2
    spec.when(NOTED).then(published(TripFailed(trip="t-1", reason="1")), ended())
    assert len(of(spec, "value.computed")) == 1


def test_a_start_of_nothing_is_refused() -> None:
    """An input for a saga that does not exist."""
    saga = Saga("forks_nothing", version=1, starts_on=TripWanted, flow=[note])
    turn = advance(saga.program, None, Cancel("ann", "x"), 1)
    assert turn.records == []
    assert turn.refusal is not None
    assert turn.refusal.code == "not_found"
    start = Start("id", "main", "t-1", TripWanted.wire_name, WANTED.plain())
    assert advance(saga.program, None, start, 1).records[0].data["at"] == 1


def test_a_scope_with_a_path_after_success() -> None:
    """then of a scope."""
    body = scope(hold_room).then(hold_car).on_failed(note)
    saga = Saga("forks_scope_then", version=1, starts_on=TripWanted, flow=[body, hold_seat])
    given(saga, WANTED).when(ROOM).then(asked(HOLD_CAR)).when(CAR).then(asked(HOLD_SEAT))
    given(saga, WANTED).when(refused(hold_room)).then(asked(NOTE)).when(NOTED).then(asked(HOLD_SEAT))


def test_a_task_with_a_path_after_success() -> None:
    """on_approve and then."""
    saga = Saga("forks_approve", version=1, starts_on=TripWanted, flow=[approve.on_approve(hold_car).on_reject(), note])
    given(saga, WANTED).then(opened(approve)).when(decided(approve, APPROVE, by="max")).then(asked(HOLD_CAR))


def test_every_record_of_control_names_the_tokens_it_takes_and_gives() -> None:
    """Section 1: control is checkable."""
    flow = [parallel(hold_room, hold_car), pivot(charge), send_ticket]
    saga = Saga("forks_tokens", version=1, starts_on=TripWanted, flow=flow)
    spec = given(saga, WANTED, ROOM, CAR, CHARGED, TICKET)
    taken = [record.data["takes"] for record in spec.records if "takes" in record.data]
    made = [token for record in spec.records for token in record.data.get("gives", [])]
    assert sorted(taken) == sorted(made)
    assert spec.state.tokens == {}
    assert asked(SEND_TICKET).what == "trips.SendTicket"
    assert types(spec)[-1] == "saga.completed"
