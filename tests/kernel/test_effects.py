"""Effects: what a turn means outside the stream. Outbox rows from records, the rest from what the turn touched.

Every specification checks besides that timers, subscriptions and tasks kept from effects are those of the state.
"""

from __future__ import annotations

from datetime import timedelta

from orchestrator import Retry, Saga, parallel, pivot, scope, step, wait_for
from orchestrator.kernel.api import Turn, advance
from orchestrator.kernel.effects import MAKERS, Outgoing, Subscription, outgoing
from orchestrator.kernel.inputs import Answer, Cancel, Input, Resume, SendRefused, Start, TimerDue
from orchestrator.kernel.turn import Limits
from orchestrator.testing import (
    APPROVE,
    Spec,
    arrived,
    asked,
    cancelled,
    compensated,
    decided,
    denied,
    elapsed,
    ended,
    given,
    operated,
    refused,
    replied,
    settled_not_done,
    settling,
    stuck,
    undone,
)
from tests.kernel.hotels import BOOK, HELD, HOTEL, book_hotel
from tests.kernel.test_tasks import TWICE, approve_twice
from tests.kernel.trips import (
    CAR,
    CHARGED,
    FREE_ROOM,
    HOLD_ROOM,
    NOTE,
    NOTED,
    ROOM,
    WANTED,
    HoldRoom,
    Note,
    Noted,
    RoomHeld,
    TripBooked,
    TripWanted,
    TripWithdrawn,
    approve,
    charge,
    hold_car,
    hold_room,
    note,
    send_ticket,
    telling_success,
)

TWO = Saga("effects_two", version=1, starts_on=TripWanted, flow=[hold_room, hold_car])
EVENTS = Saga(
    "effects_events",
    version=1,
    starts_on=TripWanted,
    flow=[scope(hold_room, approve, within=timedelta(hours=2)).on_event(TripWithdrawn, note)],
)
CALLING = Saga("effects_calling", version=1, starts_on=TripWanted, flow=[book_hotel, telling_success])


def turn(spec: Spec, saga: Saga[TripWanted], given_: Input) -> Turn:
    """One turn that the specification does not take."""
    return advance(saga.program, spec.state, given_, spec.world.clock + 1)


def test_every_message_belongs_to_exactly_one_record() -> None:
    """Section 1: no second list to keep in step. Its id is the saga's id and the record's version."""
    spec = given(TWO, WANTED, ROOM).when(refused(hold_car))
    versions = [sent.version for sent in spec.sent]
    assert len(set(versions)) == len(versions)
    assert all(spec.records[version - 1].type in MAKERS for version in versions)
    without = [v for v, record in enumerate(spec.records, 1) if record.type in MAKERS and v not in versions]
    assert [spec.records[version - 1].type for version in without] == ["saga.compensated"], "it has no parent to tell"


def test_a_message_can_be_made_again_from_its_record() -> None:
    """A record is enough to publish again what was sent long ago."""
    spec = given(TWO, WANTED, ROOM)
    for sent in spec.sent:
        assert outgoing(spec.state, spec.records[sent.version - 1], sent.version) == sent


def test_a_command_goes_to_its_participant_keyed_by_its_saga() -> None:
    """One saga's commands stay in order."""
    [sent] = given(TWO, WANTED).sent
    assert (sent.kind, sent.target, sent.type, sent.type_version) == ("do", "hotel", "trips.HoldRoom", 1)
    assert sent.body == HOLD_ROOM.plain()
    assert sent.attributes["activity"] == "hold_room"
    assert (sent.attributes["round"], sent.attributes["attempt"], sent.attributes["purpose"]) == ("1", "1", "do")


def test_every_attempt_is_a_message_of_its_own() -> None:
    """At least once: the first may be lost for good."""
    spec = given(TWO, WANTED).when(elapsed(seconds=31))
    assert [sent.attributes["attempt"] for sent in spec.sent] == ["1", "2"]


def test_a_fence_carries_the_body_of_the_command_that_it_settles() -> None:
    """Rule 13: an idempotent participant must be able to repeat it."""
    spec = given(TWO, WANTED, ROOM).when(cancelled("ann", "enough")).then(settling(hold_car))
    fence = spec.sent[-1]
    do = next(sent for sent in spec.sent if sent.attributes.get("activity") == "hold_car")
    assert (fence.kind, fence.type, fence.body, fence.target) == ("fence", do.type, do.body, do.target)


def test_an_undo_goes_to_the_participant_of_its_own_command() -> None:
    """It need not be the one that did it."""
    spec = given(TWO, WANTED, ROOM).when(refused(hold_car)).then(asked(FREE_ROOM), compensated("refused"))
    [undo] = [sent for sent in spec.sent if sent.kind == "undo"]
    assert (undo.target, undo.type, undo.body) == ("hotel", "trips.FreeRoom", {"room": "R"})


def test_a_step_sets_a_timer_that_its_answer_clears() -> None:
    """Rule 5."""
    spec = given(TWO, WANTED)
    [timer] = spec.world.main.timers.values()
    assert (timer.activity, timer.due - spec.world.clock) == ("hold_room", 30_000_000)
    effects = turn(spec, TWO, Answer("do", "hold_room", 1, 1, "ok", {"room": "R"})).effects
    assert effects.timers_cleared == ["hold_room"]
    assert [timer.activity for timer in effects.timers_set] == ["hold_car"]


def test_a_timer_of_a_pause_names_no_message() -> None:
    """Rule 9: only the clock of an attempt depends on its publication."""
    spec = given(TWO, WANTED)
    first = spec.world.main.timers["hold_room"]
    assert first.command_version == 2
    effects = turn(spec, TWO, Answer("do", "hold_room", 1, 1, "error")).effects
    assert [timer.command_version for timer in effects.timers_set] == [0]


def test_a_scope_opens_its_subscriptions_and_closes_them() -> None:
    """Section 8."""
    spec = given(EVENTS, WANTED)
    [wanted] = spec.world.main.subscriptions
    age = 3_600_000_000
    assert wanted == Subscription("hold_room.scope", "trips.TripWithdrawn", "t-1", spec.state.started_at - age)
    spec.when(ROOM)
    spec.when(arrived(TripWithdrawn(trip="t-1"), id="e-1")).then(asked(NOTE))
    assert spec.world.main.subscriptions == []
    assert spec.world.main.consumed == {"e-1"}


def test_a_task_is_a_row_until_it_is_closed() -> None:
    """What task lists show."""
    spec = given(EVENTS, WANTED, ROOM)
    [row] = spec.world.main.tasks.values()
    assert row.data["to"] == [{"role": "desk"}]
    assert row.data["help"] == "Approve the trip."
    assert row.data["shown"] == {"note": "", "trip": "t-1"}
    spec.when(decided(approve, APPROVE, by="max")).then(ended())
    assert spec.world.main.tasks == {}


def test_a_vote_that_does_not_decide_changes_the_row() -> None:
    """Task lists show the votes."""
    spec = given(TWICE, WANTED, decided(approve_twice, APPROVE, by="max"))
    [row] = spec.world.main.tasks.values()
    assert [vote["by"] for vote in row.data["votes"]] == ["max"]


def test_a_call_sends_a_start_and_its_undo_an_unwind() -> None:
    """Rule 25."""
    spec = given(CALLING, WANTED, HELD).when(cancelled("ann", "enough"))
    start, unwind = spec.sent
    assert (start.kind, unwind.kind) == ("start", "unwind")
    assert start.target == unwind.target == spec.child(HOTEL).saga_id
    assert start.body["data"] == BOOK.plain()
    assert (
        start.body["parent"]
        == unwind.body["parent"]
        == {
            "activity": "book_hotel",
            "round": 1,
            "saga_id": spec.state.saga_id,
        }
    )


def test_a_published_event_is_a_message_on_its_contexts_topic() -> None:
    """publish."""
    saga = Saga("effects_publish", version=1, starts_on=TripWanted, flow=[telling_success])
    [sent] = given(saga, WANTED).sent
    assert sent == Outgoing(2, "event", "trips.events", "t-1", "trips.TripBooked", 1, TripBooked(trip="t-1").plain())


def test_a_refused_input_has_no_effects() -> None:
    """Nothing recorded, nothing sent."""
    spec = given(TWO, WANTED, ROOM, CAR)
    late = turn(spec, TWO, Cancel("ann", "late"))
    assert late.records == []
    assert late.effects == advance(TWO.program, spec.state, Resume(), spec.world.clock).effects


def test_a_turn_that_stops_at_its_limit_is_due_to_resume() -> None:
    """Section 1: one row, written with the commit."""
    many = parallel(hold_room, hold_car)
    saga = Saga("effects_limit", version=1, starts_on=TripWanted, flow=[many, note])
    spec = given(saga, WANTED, limits=Limits(turn_records_max=1))
    whole = given(saga, WANTED)
    assert [record.type for record in spec.records] == [record.type for record in whole.records]
    first = advance(saga.program, None, _start(spec), 1, Limits(turn_records_max=1))
    assert first.effects.resume is True
    assert whole.world.main.sent == spec.world.main.sent


def _start(spec: Spec) -> Start:
    return Start(spec.state.saga_id, "main", "t-1", TripWanted.wire_name, WANTED.plain())


# --- rule 30: limits are checked in decide


@step(undo=None)
def tell_much(wanted: TripWanted) -> Note:
    return Note(trip="x" * 2000)


SMALL = Limits(message_bytes_max=1000)


def test_a_command_above_the_limit_makes_its_place_stuck_with_the_size() -> None:
    """Rule 30: and is never put into the outbox."""
    saga = Saga("effects_large", version=1, starts_on=TripWanted, flow=[tell_much])
    spec = given(saga, WANTED, limits=SMALL).then(stuck(tell_much, "size"))
    assert spec.sent == []
    assert "1000" in spec.state.stuck["+tell_much"].reason


def test_an_undo_above_the_limit_is_stuck_too() -> None:
    """Rule 30."""

    @step
    def hold(wanted: TripWanted) -> HoldRoom:
        return HoldRoom(trip=wanted.trip)

    @hold.undo
    def free(held: RoomHeld) -> HoldRoom:
        return HoldRoom(trip="x" * 2000)

    saga = Saga("effects_large_undo", version=1, starts_on=TripWanted, flow=[hold, note])
    spec = given(saga, WANTED, replied(hold, RoomHeld(room="R")), limits=SMALL).when(refused(note))
    spec.then(stuck(hold, "size"))


def refuse_sending(spec: Spec, kind: str) -> None:
    """The broker refuses the last message of this kind for good."""
    sent = [message for message in spec.sent if message.kind == kind][-1]
    spec.world.give(spec.world.main, SendRefused(sent.version, "record too large"))


def test_a_command_that_the_broker_refuses_for_good_makes_its_place_stuck() -> None:
    """Rule 30: otherwise its row waits for ever and the orphan rule calls it healthy."""
    spec = given(TWO, WANTED)
    refuse_sending(spec, "do")
    assert list(spec.state.stuck) == ["!hold_room"]
    assert spec.state.stuck["!hold_room"].cause == "size"
    spec.when(elapsed(days=1)).then_nothing()
    assert len(spec.sent) == 1, "it is not asked again by itself"
    spec.when(operated("retry", hold_room)).then(asked(HOLD_ROOM))
    spec.when(ROOM, CAR).then(asked(hold_car(WANTED)), ended())


def test_an_undo_that_the_broker_refuses_for_good_can_be_retried() -> None:
    """Rule 30, rule 19: it takes its turn again."""
    spec = given(TWO, WANTED, ROOM, answer_undos=False).when(refused(hold_car)).then(asked(FREE_ROOM))
    refuse_sending(spec, "undo")
    assert list(spec.state.stuck) == ["~hold_room"]
    spec.when(operated("retry", hold_room)).then(asked(FREE_ROOM))
    spec.when(undone(hold_room)).then(compensated("refused"))


def test_a_fence_that_the_broker_refuses_for_good_can_be_retried() -> None:
    """Rule 30, rule 15."""
    spec = given(TWO, WANTED, ROOM).when(cancelled("ann", "enough")).then(settling(hold_car))
    refuse_sending(spec, "fence")
    assert list(spec.state.stuck) == ["?hold_car"]
    spec.when(operated("retry", hold_car)).then(settling(hold_car))
    spec.when(settled_not_done(hold_car)).then(asked(FREE_ROOM), compensated("cancelled by ann: enough"))


def test_an_event_that_the_broker_refuses_for_good_is_visible() -> None:
    """Rule 30: nothing of the saga waits for it, but somebody must know."""
    saga = Saga("effects_event", version=1, starts_on=TripWanted, flow=[telling_success, note])
    spec = given(saga, WANTED)
    refuse_sending(spec, "event")
    assert list(spec.state.stuck) == ["!"]
    spec.when(operated("done", "!")).then(denied("invalid"))
    spec.when(NOTED).then(ended())
    assert list(spec.state.stuck) == ["!"], "the end does not forget it"
    spec.when(operated("retry", "!", reason="told the customer by phone")).then_nothing()
    assert spec.state.stuck == {}


# --- rule 32: a turn uses its own time


def test_everything_that_a_turn_decides_uses_the_time_that_it_was_given() -> None:
    """Rule 32: no clock is read."""
    spec = given(TWO, WANTED)
    now = spec.world.clock + 123_456_789
    made = advance(TWO.program, spec.state, Answer("do", "hold_room", 1, 1, "ok", {"room": "R"}), now)
    assert made.effects.timers_set[0].due == now + 30_000_000


def test_a_late_timer_counts_from_the_turn_and_not_from_its_due_time() -> None:
    """Rule 31, rule 32: after an outage no burst of attempts follows."""
    policy = Retry(attempts=3, jitter=0.0)

    @step(retry=policy, undo=None)
    def tell(wanted: TripWanted) -> Note:
        return Note(trip=wanted.trip)

    saga = Saga("effects_late", version=1, starts_on=TripWanted, flow=[tell])
    spec = given(saga, WANTED)
    [timer] = spec.world.main.timers.values()
    hours = timer.due + 7_200_000_000
    made = advance(saga.program, spec.state, TimerDue("tell", timer.armed), hours)
    assert made.effects.timers_set[0].due == hours + 500_000


def test_the_pivot_and_what_follows_it_need_no_undo_rows() -> None:
    """Nothing is ever sent back past the pivot."""
    saga = Saga("effects_pivot", version=1, starts_on=TripWanted, flow=[hold_room, pivot(charge), send_ticket])
    spec = given(saga, WANTED, ROOM, CHARGED).when(refused(send_ticket), elapsed(days=1))
    assert [sent.kind for sent in spec.sent] == ["do", "do", "do"]


def test_a_wait_with_a_key_of_its_own_subscribes_to_that_key() -> None:
    """Rule 23."""

    def other(wanted: TripWanted) -> str:
        return TripWithdrawn.key_of("t-2")

    flow = [wait_for(TripWithdrawn, within=timedelta(days=1), match=other)]
    spec = given(Saga("effects_key", version=1, starts_on=TripWanted, flow=flow), WANTED)
    assert [wanted.key for wanted in spec.world.main.subscriptions] == ["t-2"]
    assert Noted().note == ""
