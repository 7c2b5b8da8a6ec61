"""Rules 1-7: ids, idempotency keys, rounds, timers, retries that repeat themselves."""

from __future__ import annotations

from orchestrator import Retry, Saga, for_each, pivot, step
from orchestrator.kernel.api import advance
from orchestrator.kernel.children import child_id, saga_id
from orchestrator.kernel.inputs import TimerDue
from orchestrator.testing import (
    asked,
    denied,
    elapsed,
    ended,
    errored,
    given,
    operated,
    refused,
    replied,
    started,
    stuck,
)
from tests.kernel.trips import (
    CHARGED,
    ROOM,
    SEND_TICKET,
    WANTED,
    FreeRoom,
    HoldRoom,
    RoomHeld,
    TicketSent,
    TripWanted,
    charge,
    hold_car,
    hold_room,
    keys,
    of,
    send_ticket,
    types,
)

TWO = Saga("keys_two", version=1, starts_on=TripWanted, flow=[hold_room, hold_car])
ROOM_ONLY = Saga("keys_room", version=1, starts_on=TripWanted, flow=[hold_room])
AFTER_PIVOT = Saga("keys_pivot", version=1, starts_on=TripWanted, flow=[pivot(charge), send_ticket])


def stops(wanted: TripWanted) -> list[int]:
    return list(range(wanted.stops))


@step
def hold_stop(stop: int) -> HoldRoom:
    return HoldRoom(trip=f"stop {stop}")


@hold_stop.undo
def free_stop(held: RoomHeld) -> FreeRoom:
    return FreeRoom(room=held.room)


STOPS = Saga("keys_stops", version=1, starts_on=TripWanted, flow=[for_each(stops, hold_stop, at_once=2)])


def test_a_key_begins_with_the_tenant_and_names_saga_activity_and_round() -> None:
    """Rule 1, rule 2."""
    spec = given(TWO, WANTED)
    [key] = keys(spec, "do")
    tenant, saga, activity, round_, digest = key.split(":")
    assert (tenant, saga, activity, round_) == ("main", spec.state.saga_id, "hold_room", "1")
    assert len(digest) == 16


def test_an_activity_id_is_the_path_with_indices_and_the_node_is_the_path_without() -> None:
    """Rule 1: unique, stable, readable."""
    spec = given(STOPS, TripWanted(trip="t-1", stops=2))
    assert [a for a in spec.state.activities if "hold" in a] == ["stops[0]/hold_stop", "stops[1]/hold_stop"]
    assert "stops/hold_stop" in STOPS.graph.nodes


def test_every_attempt_of_a_round_carries_the_same_key() -> None:
    """Rule 2: with the attempt in it, a retry would be a second effect."""
    spec = given(ROOM_ONLY, WANTED).when(elapsed(minutes=1, seconds=10))
    assert len(keys(spec, "do")) == 3
    assert len(set(keys(spec, "do"))) == 1


def test_an_undo_has_a_key_of_its_own_and_names_the_key_it_undoes() -> None:
    """Rule 2, rule 18."""
    spec = given(TWO, WANTED, ROOM).when(refused(hold_car))
    [undo] = [sent for sent in spec.sent if sent.kind == "undo"]
    assert undo.attributes["idempotencykey"] not in keys(spec, "do")
    assert undo.attributes["undoes"] == keys(spec, "do")[0]


def test_every_attempt_of_an_undo_carries_the_same_key() -> None:
    """Rule 2: an undo is an effect too."""
    spec = given(TWO, WANTED, ROOM, answer_undos=False).when(refused(hold_car)).when(elapsed(minutes=1, seconds=10))
    assert len(keys(spec, "undo")) == 3
    assert len(set(keys(spec, "undo"))) == 1


def test_a_retry_sends_the_stored_bytes_and_does_not_call_the_builder_again() -> None:
    """Rule 3: user code may have changed since, or would see later results."""
    code = {"version": 1}

    @step
    def hold_by_version(wanted: TripWanted) -> HoldRoom:
        return HoldRoom(trip=f"{wanted.trip}, built by version {code['version']}")

    @hold_by_version.undo
    def free_by_version(held: RoomHeld) -> FreeRoom:
        return FreeRoom(room=held.room)

    saga = Saga("keys_bytes", version=1, starts_on=TripWanted, flow=[hold_by_version])
    spec = given(saga, WANTED)
    code["version"] = 2
    spec.when(elapsed(minutes=1, seconds=10))
    bodies = [sent.body for sent in spec.sent if sent.kind == "do"]
    assert bodies == [{"trip": "t-1, built by version 1"}] * 3


def test_an_unknown_outcome_never_begins_a_new_round() -> None:
    """Rule 4: an operator who retries an unknown step repeats its key."""
    spec = given(AFTER_PIVOT, WANTED, CHARGED).when(elapsed(hours=1))
    assert {record.data["round"] for record in of(spec, "step.requested")} == {1}


def test_a_retry_after_a_definite_no_begins_a_new_round_with_a_new_key() -> None:
    """Rule 4: asking in the same round would only repeat the stored no."""
    spec = given(AFTER_PIVOT, WANTED, CHARGED).when(refused(send_ticket)).then(stuck(send_ticket, "refused"))
    spec.when(operated("retry", send_ticket)).then(asked(SEND_TICKET))
    first, second = keys(spec, "do")[1:]
    assert first.rpartition(":")[0].endswith("send_ticket:1")
    assert second.rpartition(":")[0].endswith("send_ticket:2")
    assert first.rpartition(":")[2] == second.rpartition(":")[2], "the same command has the same bytes"
    spec.when(replied(send_ticket, TicketSent(ticket="T"))).then(ended())


def test_a_stale_timer_changes_nothing() -> None:
    """Rule 5: a timer names the record that armed it."""
    spec = given(TWO, WANTED)
    stale = TimerDue("hold_room", spec.state.activities["hold_room"].armed)
    spec.when(ROOM)
    turn = advance(TWO.program, spec.state, stale, spec.world.clock + 10**9)
    assert turn.records == []
    assert turn.refusal is not None


def test_an_attempt_that_was_repeated_makes_the_timer_of_the_first_stale() -> None:
    """Rule 5: an activity has at most one timer."""
    spec = given(TWO, WANTED)
    stale = TimerDue("hold_room", spec.state.activities["hold_room"].armed)
    spec.when(errored(hold_room))
    turn = advance(TWO.program, spec.state, stale, spec.world.clock + 10**9)
    assert turn.records == []


def test_a_pause_between_attempts_is_the_same_whenever_it_is_decided_and_differs_between_attempts() -> None:
    """Rule 6: the jitter is a hash, not chance."""
    patient = Retry(attempts=4, factor=1.0, jitter=0.5)

    @step(retry=patient, undo=None)
    def hold_patiently(wanted: TripWanted) -> HoldRoom:
        return HoldRoom(trip=wanted.trip)

    saga = Saga("keys_jitter", version=1, starts_on=TripWanted, flow=[hold_patiently])
    pauses = []
    for _ in range(2):
        spec = given(saga, WANTED)
        for _ in range(3):
            spec.when(errored(hold_patiently))
            pauses.append(of(spec, "step.failed")[-1].data["due"] - spec.world.clock)
            spec.when(elapsed(seconds=1))
    assert pauses[:3] == pauses[3:]
    assert len(set(pauses[:3])) == 3
    assert all(250_000 <= pause <= 750_000 for pause in pauses)


def test_a_start_id_follows_from_tenant_name_and_business_key() -> None:
    """Rule 7."""
    ids = {saga_id("main", "a", "k"), saga_id("other", "a", "k"), saga_id("main", "b", "k"), saga_id("main", "a", "l")}
    assert len(ids) == 4
    assert saga_id("main", "a", "k") == saga_id("main", "a", "k")
    assert saga_id("main", "a", "k", "event-2") != saga_id("main", "a", "k"), "a rerun is another saga"


def test_a_child_id_follows_from_parent_activity_and_round() -> None:
    """Rule 7."""
    ids = {
        child_id("m", "p", "a", 1),
        child_id("m", "p", "a", 2),
        child_id("m", "p", "b", 1),
        child_id("m", "q", "a", 1),
    }
    assert len(ids) == 4


def test_the_parts_of_an_id_cannot_run_into_each_other() -> None:
    """Rule 1: "ab" + "c" is not "a" + "bc"."""
    assert saga_id("main", "ab", "c") != saga_id("main", "a", "bc")


def test_a_second_start_with_the_same_body_changes_nothing() -> None:
    """Rule 7."""
    spec = given(TWO, WANTED)
    spec.when(started(WANTED)).then_nothing()
    assert types(spec) == ["saga.started", "step.requested"]


def test_a_second_start_with_another_body_is_refused_and_not_taken_for_a_duplicate() -> None:
    """Rule 7."""
    given(TWO, WANTED).when(started(TripWanted(trip="t-1", stops=9))).then(denied("same_id_other_body"))


def test_a_second_start_is_compared_with_the_first_after_the_end_too() -> None:
    """Rule 7."""
    spec = given(ROOM_ONLY, WANTED, ROOM)
    spec.when(started(WANTED)).then_nothing()
    spec.when(started(TripWanted(trip="t-1", quick=True))).then(denied("same_id_other_body"))
