"""Rules 23, 26, 31: events, early and late; time limits; the saga's own deadline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestrator import Event, Key, Saga, delay, end, fail, for_each, parallel, pivot, repeat, scope, step, wait_for
from orchestrator.kernel.api import advance
from orchestrator.kernel.inputs import Arrived, TimerDue
from orchestrator.testing import (
    Spec,
    arrived,
    asked,
    awaits,
    cancelled,
    compensated,
    elapsed,
    ended,
    given,
    operated,
    replied,
    settled_done,
    settled_not_done,
    settling,
    stuck,
)
from tests.kernel.trips import (
    CAR,
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
    TripChanged,
    TripWanted,
    TripWithdrawn,
    charge,
    hold_car,
    hold_room,
    note,
    of,
    send_ticket,
    types,
)

DAY = timedelta(days=1)
WITHDRAWN = arrived(TripWithdrawn(trip="t-1"))

WAIT = wait_for(TripWithdrawn, within=DAY)
SIMPLE = Saga("waiting_simple", version=1, starts_on=TripWanted, flow=[hold_room, WAIT, note])


def test_an_event_of_the_sagas_key_ends_its_wait() -> None:
    """Rule 23."""
    given(SIMPLE, WANTED).when(ROOM).then(awaits(TripWithdrawn)).when(WITHDRAWN).then(asked(NOTE))


def test_an_event_of_another_key_does_not() -> None:
    """Rule 23: by tenant, type and key."""
    given(SIMPLE, WANTED, ROOM).when(arrived(TripWithdrawn(trip="t-2"))).then_nothing()


def test_an_event_of_another_type_does_not() -> None:
    """Rule 23."""
    given(SIMPLE, WANTED, ROOM).when(arrived(TripChanged(trip="t-1"))).then_nothing()


def test_an_event_that_finds_no_wait_is_kept_and_taken_when_the_wait_opens() -> None:
    """Rule 23: early."""
    given(SIMPLE, WANTED).when(WITHDRAWN).then_nothing().when(ROOM).then(awaits(TripWithdrawn), asked(NOTE))


def test_an_event_is_taken_once() -> None:
    """Rule 23: a consumed event is not early for a second wait of the same saga."""
    again = wait_for(TripWithdrawn, within=DAY).named("again")
    flow = [wait_for(TripWithdrawn, within=DAY), hold_room, again, note]
    saga = Saga("waiting_once", version=1, starts_on=TripWanted, flow=flow)
    spec = given(saga, WANTED, WITHDRAWN).when(ROOM).then(awaits(TripWithdrawn))
    assert len(of(spec, "event.received")) == 1


def test_an_event_from_before_the_start_is_taken_up_to_the_early_age() -> None:
    """Rule 23: an hour unless the saga says otherwise."""
    for minutes, taken in ((59, True), (61, False)):
        spec = given(SIMPLE, WANTED).when(arrived(TripWithdrawn(trip="t-1"), ago=timedelta(minutes=minutes)))
        spec.when(ROOM)
        assert (len(of(spec, "event.received")) == 1) is taken, minutes


def test_a_wait_that_says_early_false_takes_only_what_arrives_after_it_opened() -> None:
    """Rule 23: an answer to the first offer must not accept the second."""
    flow = [hold_room, wait_for(TripWithdrawn, within=DAY, early=False), note]
    saga = Saga("waiting_fresh", version=1, starts_on=TripWanted, flow=flow)
    spec = given(saga, WANTED, WITHDRAWN).when(ROOM).then(awaits(TripWithdrawn))
    spec.when(arrived(TripWithdrawn(trip="t-1"))).then(asked(NOTE))


def test_a_wait_that_names_a_step_takes_what_arrived_after_that_step_was_asked() -> None:
    """Rule 23: since=step."""
    waiting = wait_for(TripWithdrawn, within=DAY, since=hold_car)
    saga = Saga("waiting_since", version=1, starts_on=TripWanted, flow=[hold_room, hold_car, waiting, note])
    spec = given(saga, WANTED, WITHDRAWN, ROOM).when(CAR).then(awaits(TripWithdrawn))
    given(saga, WANTED, ROOM, WITHDRAWN).when(CAR).then(awaits(TripWithdrawn), asked(NOTE))
    assert of(spec, "event.received") == []


def test_a_wait_in_a_loop_counts_from_its_own_rounds_step() -> None:
    """Rule 23: the answer to an earlier round's offer is not this round's."""
    body = [hold_room, wait_for(TripWithdrawn, within=DAY, since=hold_room)]
    saga = Saga("waiting_rounds", version=1, starts_on=TripWanted, flow=[repeat(*body, at_most=2).otherwise(), note])
    spec = given(saga, WANTED, ROOM, WITHDRAWN, arrived(TripWithdrawn(trip="t-1"), id="second"))
    assert spec.state.activities["hold_room.repeat[1]/hold_room"].status == "requested"
    spec.when(ROOM).then(awaits(TripWithdrawn, at=1), asked(NOTE))


def test_an_answer_to_the_offer_of_an_earlier_round_does_not_accept_the_next() -> None:
    """Rule 23: two events answer round one; the second arrived before round two was asked."""
    body = [hold_room, wait_for(TripWithdrawn, within=DAY, since=hold_room), hold_car]
    saga = Saga("waiting_offers", version=1, starts_on=TripWanted, flow=[repeat(*body, at_most=2).otherwise(), note])
    spec = given(saga, WANTED, ROOM, WITHDRAWN, arrived(TripWithdrawn(trip="t-1")), CAR)
    spec.when(ROOM).then(awaits(TripWithdrawn, at=1))


def test_a_consumed_wait_frees_its_key_for_the_next() -> None:
    """Rule 23."""
    again = wait_for(TripWithdrawn, within=DAY).named("again")
    saga = Saga("waiting_frees", version=1, starts_on=TripWanted, flow=[WAIT, again, note])
    spec = given(saga, WANTED, WITHDRAWN)
    assert len(spec.world.main.subscriptions) == 1
    spec.when(arrived(TripWithdrawn(trip="t-1"))).then(asked(NOTE))
    assert spec.world.main.subscriptions == []


class StopReached(Event):
    """An event with a key of its own."""

    trip: Key[str]
    stop: Key[int]


def stops(wanted: TripWanted) -> list[int]:
    return list(range(wanted.stops))


def stop_key(wanted: TripWanted, stop: int) -> str:
    return StopReached.key_of(wanted.trip, stop)


def test_an_item_waits_for_an_event_of_its_own_key() -> None:
    """authoring: match= builds another key, also of an item's."""
    each = for_each(stops, wait_for(StopReached, within=DAY, match=stop_key), at_once=3)
    saga = Saga("waiting_items", version=1, starts_on=TripWanted, flow=[each, note])
    spec = given(saga, TripWanted(trip="t-1", stops=2)).then(awaits(StopReached, at=0), awaits(StopReached, at=1))
    spec.when(arrived(StopReached(trip="t-1", stop=1))).then_nothing()
    assert spec.state.activities["stops[1]/stop_reached"].status == "succeeded"
    spec.when(arrived(StopReached(trip="t-1", stop=0))).then(asked(NOTE))


@step(undo=None)
def tell_stop(wanted: TripWanted, stop: int) -> Note:
    return Note(trip=f"{wanted.trip}, stop {stop}")


def test_the_wait_of_an_item_counts_from_its_own_items_step() -> None:
    """Rule 23: another item that was asked later does not matter."""
    waiting = wait_for(StopReached, within=DAY, match=stop_key, since=tell_stop)
    saga = Saga(
        "waiting_item_since", version=1, starts_on=TripWanted, flow=[for_each(stops, tell_stop, waiting, at_once=2)]
    )
    spec = given(saga, TripWanted(trip="t-1", stops=3)).when(arrived(StopReached(trip="t-1", stop=0)))
    spec.when(replied(tell_stop, Noted(), at=1), arrived(StopReached(trip="t-1", stop=1)))
    assert spec.state.activities["stops[2]/tell_stop"].status == "requested"
    spec.when(replied(tell_stop, Noted(), at=0)).then(awaits(StopReached, at=0))
    assert spec.state.activities["stops[0]/stop_reached"].status == "succeeded"


def test_a_wait_that_runs_out_turns_back_or_takes_its_path() -> None:
    """on_timeout."""
    given(SIMPLE, WANTED, ROOM).when(elapsed(hours=24)).then(
        asked(FREE_ROOM), compensated("trip_withdrawn waited in vain")
    )
    flow = [wait_for(TripWithdrawn, within=DAY).on_timeout(end("nobody came"))]
    saga = Saga("waiting_path", version=1, starts_on=TripWanted, flow=flow)
    given(saga, WANTED).when(elapsed(hours=23)).then_nothing().when(elapsed(hours=1)).then(ended("nobody came"))


def test_what_follows_only_an_event_follows_only_an_event() -> None:
    """then."""
    flow = [WAIT.then(note).on_timeout(), hold_car]
    saga = Saga("waiting_then", version=1, starts_on=TripWanted, flow=flow)
    given(saga, WANTED).when(WITHDRAWN).then(asked(NOTE)).when(NOTED).then(asked(HOLD_CAR))
    given(saga, WANTED).when(elapsed(days=1)).then(asked(HOLD_CAR))


def late(spec: Spec, after_due: int) -> Arrived:
    """A withdrawal whose arrival was that many microseconds after the timer's due time."""
    [timer] = spec.world.main.timers.values()
    return Arrived(TripWithdrawn.wire_name, "t-1", {"trip": "t-1"}, "event-1", timer.due + after_due)


def test_an_event_counts_by_the_time_it_arrived_not_by_the_time_it_is_handled() -> None:
    """Rule 31: an outage of two hours must not send an acknowledged case to the Ombudsman."""
    spec = given(SIMPLE, WANTED, ROOM)
    in_time = late(spec, -1)
    turn = advance(SIMPLE.program, spec.state, in_time, in_time.arrived_at + 7_200_000_000)
    assert turn.records[0].type == "event.received"


def test_an_event_that_arrived_after_the_limit_finds_the_limit_reached() -> None:
    """Rule 31, S1: whether or not the timer has fired."""
    spec = given(SIMPLE, WANTED, ROOM)
    too_late = late(spec, 0)
    turn = advance(SIMPLE.program, spec.state, too_late, too_late.arrived_at)
    assert turn.records[0].type == "event.expired"
    assert "event.received" not in [record.type for record in turn.records]


def test_a_scopes_limit_is_kept_against_a_late_event_too() -> None:
    """Rule 31, S1."""
    body = scope(hold_room, wait_for(TripChanged, within=timedelta(days=9)), within=DAY)
    body = body.on_event(TripWithdrawn, note).on_timeout(hold_car)
    saga = Saga("waiting_scope", version=1, starts_on=TripWanted, flow=[body])
    spec = given(saga, WANTED, ROOM)
    due = spec.world.main.timers["hold_room.scope"].due
    event = Arrived(TripWithdrawn.wire_name, "t-1", {"trip": "t-1"}, "event-1", due)
    turn = advance(saga.program, spec.state, event, due)
    assert turn.records[0].data["by"] == "timeout"


def test_a_delay_waits_that_long_and_survives_nothing_else() -> None:
    """A durable pause."""
    saga = Saga("waiting_delay", version=1, starts_on=TripWanted, flow=[delay(timedelta(days=30)), note])
    given(saga, WANTED).when(elapsed(days=29, hours=23)).then_nothing().when(elapsed(hours=1)).then(asked(NOTE))


def test_a_limit_may_be_a_function_that_gives_an_instant() -> None:
    """authoring: calendars belong in the within= function."""

    def monday(wanted: TripWanted) -> datetime:
        return datetime(2026, 1, 12, 9, 0, tzinfo=UTC)

    saga = Saga("waiting_calendar", version=1, starts_on=TripWanted, flow=[delay(monday), note])
    spec = given(saga, WANTED).when(elapsed(days=6, hours=23)).then_nothing()
    spec.when(elapsed(hours=1)).then(asked(NOTE))


def test_an_instant_that_has_passed_is_over_at_once() -> None:
    """delay never waits backwards."""

    def yesterday(wanted: TripWanted) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    saga = Saga("waiting_past", version=1, starts_on=TripWanted, flow=[delay(yesterday), note])
    given(saga, WANTED).when(elapsed(seconds=0)).then(asked(NOTE))


def test_a_limit_may_be_a_function_that_gives_a_duration() -> None:
    """And raises into its place like any other."""

    def patience(wanted: TripWanted) -> timedelta:
        if wanted.quick:
            raise ValueError("no patience")
        return timedelta(hours=2)

    flow = [wait_for(TripWithdrawn, within=patience).on_timeout(), note]
    saga = Saga("waiting_patience", version=1, starts_on=TripWanted, flow=flow)
    given(saga, WANTED).when(elapsed(hours=2)).then(asked(NOTE))
    spec = given(saga, TripWanted(trip="t-1", quick=True)).then(stuck("trip_withdrawn", "function"))
    spec.when(operated("value", patience, data=3600)).then(awaits(TripWithdrawn)).when(elapsed(hours=1)).then(
        asked(NOTE)
    )


# --- rule 26: the saga's own deadline

TIMED = Saga("waiting_timed", version=1, starts_on=TripWanted, flow=[hold_room, hold_car], within=timedelta(hours=1))
TIMED_PIVOT = Saga(
    "waiting_timed_pivot",
    version=1,
    starts_on=TripWanted,
    flow=[hold_room, delay(timedelta(minutes=59, seconds=50)), pivot(charge), send_ticket],
    within=timedelta(hours=1),
)


def test_the_deadline_of_the_saga_is_one_more_timer() -> None:
    """Rule 26: its activity is ""."""
    spec = given(TIMED, WANTED)
    assert "" in spec.world.main.timers
    spec.when(ROOM, CAR)
    assert spec.world.main.timers == {}


def test_a_saga_that_takes_too_long_turns_back() -> None:
    """Rule 16, rule 26."""
    body = [hold_room, wait_for(TripWithdrawn, within=DAY)]
    saga = Saga("waiting_long", version=1, starts_on=TripWanted, flow=body, within=timedelta(hours=1))
    spec = given(saga, WANTED, ROOM).when(elapsed(hours=1))
    spec.then(asked(FREE_ROOM), compensated("the saga took longer than its time limit"))


def test_a_deadline_after_the_pivot_is_recorded_as_missed() -> None:
    """Rule 16a."""
    spec = given(TIMED_PIVOT, WANTED, ROOM, elapsed(minutes=59, seconds=50)).when(CHARGED).then(asked(SEND_TICKET))
    spec.when(elapsed(seconds=20)).then_nothing()
    assert "saga.deadline_missed" in types(spec)
    assert spec.state.phase == "forward"


def test_a_deadline_while_the_pivot_is_in_flight_settles_it_first() -> None:
    """Rule 16b."""
    spec = given(TIMED_PIVOT, WANTED, ROOM, elapsed(minutes=59, seconds=50)).when(elapsed(seconds=10))
    spec.then(settling(charge))
    spec.when(settled_not_done(charge)).then(asked(FREE_ROOM), compensated("the saga took longer than its time limit"))


def test_a_deadline_that_fires_while_a_cancel_waits_for_the_pivot_is_recorded_as_missed() -> None:
    """Section 8: not swallowed."""
    spec = given(TIMED_PIVOT, WANTED, ROOM, elapsed(minutes=59, seconds=50), cancelled("ann", "enough"))
    spec.when(elapsed(seconds=10)).then_nothing()
    assert "saga.deadline_missed" in types(spec)
    spec.when(settled_done(charge, Charged(receipt="B"))).then(asked(SEND_TICKET))


def test_a_stale_deadline_changes_nothing() -> None:
    """Rule 5."""
    spec = given(TIMED, WANTED)
    armed = spec.state.deadline_armed
    spec.when(ROOM, CAR)
    assert advance(TIMED.program, spec.state, TimerDue("", armed), spec.world.clock + 10**12).records == []


@pytest.mark.parametrize("first", [True, False])
def test_between_two_inputs_the_first_committed_record_wins(first: bool) -> None:
    """S1: the reply or the time limit, whichever is decided first."""
    body = scope(hold_room, within=timedelta(seconds=10)).on_timeout(note)
    saga = Saga("waiting_race", version=1, starts_on=TripWanted, flow=[body])
    spec = given(saga, WANTED).then(asked(HOLD_ROOM))
    if first:
        spec.when(ROOM).then(ended()).when(elapsed(seconds=10)).then_nothing()
    else:
        spec.when(elapsed(seconds=10)).then(settling(hold_room)).when(ROOM).then(asked(NOTE))


def test_a_wait_of_one_branch_does_not_hold_the_other() -> None:
    """Joins: over when all are over."""
    flow = [parallel([wait_for(TripWithdrawn, within=DAY)], [hold_room, hold_car]), note]
    saga = Saga("waiting_branches", version=1, starts_on=TripWanted, flow=flow)
    spec = given(saga, WANTED).when(ROOM).then(asked(HOLD_CAR)).when(CAR).then_nothing()
    spec.when(WITHDRAWN).then(asked(NOTE))


def test_a_failure_in_one_branch_withdraws_the_wait_of_the_other() -> None:
    """Rule 16c."""
    flow = [parallel([wait_for(TripWithdrawn, within=DAY)], [hold_room, fail("no")])]
    saga = Saga("waiting_withdrawn", version=1, starts_on=TripWanted, flow=flow)
    spec = given(saga, WANTED).when(ROOM).then(asked(FREE_ROOM), compensated("no"))
    assert spec.world.main.subscriptions == []
