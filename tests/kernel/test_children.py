"""Rule 25: child sagas. They really run here, unless a specification answers for them."""

from __future__ import annotations

from orchestrator import Saga, call, publish, scope, step
from orchestrator.kernel.api import advance, fold
from orchestrator.kernel.inputs import ChildAnswer, Parent, Start, UndoAsked
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
    published,
    refused,
    replied,
    settled_not_done,
    settling,
    stuck,
    undo_refused,
    undone,
    unwinding,
)
from tests.kernel.hotels import (
    BOOK,
    CHILD_NOTED,
    HELD,
    HOLD,
    HOTEL,
    Booked,
    BookHotel,
    HotelSaidYes,
    TellHotel,
    book_hotel,
    child_note,
    child_room,
    make_plan,
    tell_slow,
)
from tests.kernel.trips import (
    CAR,
    FREE_CAR,
    FREE_ROOM,
    HOLD_CAR,
    NOTE,
    NOTED,
    WANTED,
    Note,
    Noted,
    TripFailed,
    TripWanted,
    TripWithdrawn,
    hold_car,
    hold_seat,
    note,
    types,
)

PARENT = Saga("children_parent", version=1, starts_on=TripWanted, flow=[hold_car, book_hotel, note])
ENOUGH = "cancelled by ann: enough"
CANCEL = cancelled("ann", "enough")


def called() -> Spec:
    """The parent has called, and the child is asked for its first step."""
    return given(PARENT, WANTED).when(CAR).then(asked(BOOK), asked(HOLD))


def test_a_call_starts_a_child_and_its_end_is_the_reply() -> None:
    """Rule 25."""
    spec = called().when(HELD).then(asked(Note(trip="t-1/hotel")))
    spec.when(CHILD_NOTED).then(ended("booked", Booked(room="R"), of=HOTEL), asked(NOTE))
    assert spec.state.activities["book_hotel"].result == {"room": "R"}
    spec.when(NOTED).then(ended())


def test_a_child_knows_its_parent_and_has_a_stream_of_its_own() -> None:
    """Rule 25."""
    spec = called()
    child = spec.child(HOTEL)
    assert child.now_state.parent == Parent(spec.state.saga_id, "book_hotel", 1)
    assert fold(child.records).summary() == child.now_state.summary()


def test_a_child_that_fails_is_compensated_before_its_parent_hears() -> None:
    """Rule 22, rule 25."""
    spec = called().when(HELD, refused(child_note, "closed"))
    spec.then(
        asked(Note(trip="t-1/hotel")),
        asked(FREE_ROOM),
        compensated("closed", of=HOTEL),
        asked(FREE_CAR),
        compensated("closed"),
    )


def test_a_child_that_fails_takes_the_parents_path_for_it() -> None:
    """on_refused."""
    saga = Saga("children_path", version=1, starts_on=TripWanted, flow=[hold_car, book_hotel.on_refused(), note])
    given(saga, WANTED, CAR).when(refused(child_room)).then(compensated("refused", of=HOTEL), asked(NOTE))


def test_a_running_child_is_asked_to_undo_itself_when_its_parent_turns_back() -> None:
    """Rule 16c, rule 25: undo of a running child fails it."""
    spec = called().when(HELD).when(CANCEL).then(settling(book_hotel), settling(child_note), asked(FREE_ROOM))
    assert spec.state.phase == "compensating"
    spec.when(replied(child_note, Noted()))
    spec.then(compensated(f"undone by parent {spec.state.saga_id}", of=HOTEL), asked(FREE_CAR), compensated(ENOUGH))


def test_a_completed_child_is_undone_by_its_own_plan_in_its_turn() -> None:
    """Rule 17, rule 25."""
    spec = called().when(HELD, CHILD_NOTED)
    assert spec.undo_plan() == ["book_hotel", "hold_car"]
    spec.when(refused(note)).then(
        unwinding(book_hotel),
        asked(FREE_ROOM),
        compensated(f"undone by parent {spec.state.saga_id}", of=HOTEL),
        asked(FREE_CAR),
        compensated("refused"),
    )


def test_a_completed_child_whose_undo_is_stuck_holds_its_parent() -> None:
    """Rule 18: the parent waits; the place is in the child."""
    spec = given(PARENT, WANTED, CAR, HELD, CHILD_NOTED, answer_undos=False).when(refused(note))
    spec.when(undo_refused(child_room)).then(stuck(child_room, "refused"))
    assert spec.child(HOTEL).now_state.stuck
    spec.when(operated("retry", child_room)).then(asked(FREE_ROOM))
    spec.when(undone(child_room))
    assert spec.outputs[-1].text == asked(FREE_CAR).text


def test_a_completed_child_runs_its_own_failure_path_when_its_parent_undoes_it() -> None:
    """S11: but a tombstone does not."""

    def told(telling: TellHotel) -> TripFailed:
        return TripFailed(trip=telling.telling, reason="undone")

    hotel = Saga("hotel_told", version=1, starts_on=TellHotel, flow=[hold_nothing], on_failed=publish(told))

    @call(hotel)
    def tell(wanted: TripWanted) -> TellHotel:
        return TellHotel(telling="b")

    saga = Saga("children_told", version=1, starts_on=TripWanted, flow=[tell, note])
    spec = given(saga, WANTED, replied(hold_nothing, Noted())).when(refused(note))
    assert published(TripFailed(trip="b", reason="undone")).fits(spec.outputs[1])
    undo = UndoAsked(parent_of())
    turn = advance(hotel.program, None, undo, 1, child=("child", "main", "b"))
    assert [record.type for record in turn.records] == ["saga.tombstoned"]


@step(undo=None)
def hold_nothing(telling: TellHotel) -> Note:
    return Note(trip=telling.telling)


def test_a_parent_hears_only_when_its_childs_failure_path_is_over() -> None:
    """Rule 22: then, not earlier."""
    slow = step(undo=None)(_tell_failure)
    hotel = Saga("hotel_telling", version=1, starts_on=TellHotel, flow=[hold_nothing], on_failed=[slow])

    @call(hotel)
    def tell(wanted: TripWanted) -> TellHotel:
        return TellHotel(telling="b")

    saga = Saga("children_telling", version=1, starts_on=TripWanted, flow=[hold_car, tell])
    spec = given(saga, WANTED, CAR).when(refused(hold_nothing, "full")).then(asked(Note(trip="b failed")))
    assert spec.state.phase == "forward"
    spec.when(replied(slow, Noted())).then(compensated("full", of=hotel), asked(FREE_CAR), compensated("full"))


def _tell_failure(telling: TellHotel) -> Note:
    return Note(trip=f"{telling.telling} failed")


def parent_of(state_id: str = "parent") -> Parent:
    return Parent(state_id, "book_hotel", 1)


def test_an_undo_that_comes_before_its_child_leaves_a_tombstone() -> None:
    """Rule 25: a later start does nothing."""
    undo = UndoAsked(parent_of())
    turn = advance(HOTEL.program, None, undo, 1, child=("child", "main", "b"))
    assert [record.type for record in turn.records] == ["saga.tombstoned"]
    [answer] = turn.effects.outbox
    assert (answer.kind, answer.target, answer.body["outcome"]) == ("answer", "parent", "undone")
    start = Start("child", "main", "b", BookHotel.wire_name, {"booking": "b"}, parent_of())
    later = advance(HOTEL.program, turn.state, start, 2)
    assert later.records == []
    assert later.effects.outbox == []


def test_a_tombstone_answers_again_when_it_is_asked_again() -> None:
    """Rule 25: the first answer may have been lost."""
    undo = UndoAsked(parent_of())
    turn = advance(HOTEL.program, None, undo, 1, child=("child", "main", "b"))
    again = advance(HOTEL.program, turn.state, undo, 2)
    assert [message.body["outcome"] for message in again.effects.outbox] == ["undone"]


def test_a_compensated_child_answers_again() -> None:
    """Rule 25."""
    spec = called().when(refused(child_room))
    child = spec.child(HOTEL)
    turn = advance(HOTEL.program, child.now_state, UndoAsked(child.now_state.parent or parent_of()), spec.world.clock)
    assert [message.body["outcome"] for message in turn.effects.outbox] == ["undone"]
    assert turn.state.phase == "compensated"


def test_a_start_of_the_same_child_twice_is_one_start() -> None:
    """Rule 25: idempotent by child id."""
    spec = called()
    child = spec.child(HOTEL)
    state = child.now_state
    again = Start(state.saga_id, "main", "t-1/hotel", BookHotel.wire_name, BOOK.plain(), state.parent)
    assert advance(HOTEL.program, state, again, spec.world.clock).records == []


def test_an_answer_of_an_earlier_round_is_ignored() -> None:
    """Rule 25: parent answers carry (parent, activity, round)."""
    spec = called()
    late = ChildAnswer("book_hotel", 0, "completed", {"room": "X"})
    turn = advance(PARENT.program, spec.state, late, spec.world.clock)
    assert turn.records == []
    assert turn.refusal is not None


def test_an_answer_to_no_call_is_ignored() -> None:
    """Rule 25."""
    turn = advance(PARENT.program, called().state, ChildAnswer("nothing", 1, "completed"), 10**18)
    assert turn.records == []


def test_a_child_that_could_not_start_is_refused() -> None:
    """Rule 7: another's run lives under the same business key."""
    spec = given(PARENT, WANTED, CAR, run_children=False)
    answer = ChildAnswer("book_hotel", 1, "refused", reason="already_running")
    spec.world.give(spec.world.main, answer)
    assert spec.state.phase == "compensated"
    assert spec.state.failure is not None
    assert spec.state.failure["reason"] == "already_running"


def test_a_refused_call_that_is_stuck_can_be_retried_as_another_child() -> None:
    """Rule 4, rule 27: where only forward is left."""
    spec = given(PARENT, WANTED, CAR, run_children=False, forward_only=True)
    spec.world.give(spec.world.main, ChildAnswer("book_hotel", 1, "refused", reason="already_running"))
    assert list(spec.state.stuck) == ["!book_hotel"]
    spec.when(operated("retry", book_hotel)).then(asked(BOOK))
    first, second = [sent.target for sent in spec.sent if sent.kind == "start"]
    assert first != second
    assert spec.state.activities["book_hotel"].round == 2
    spec.world.give(spec.world.main, ChildAnswer("book_hotel", 1, "completed", {"room": "X"}))
    assert spec.state.activities["book_hotel"].status == "requested", "an answer of the first round is ignored"


def test_a_child_that_takes_too_long_is_undone_and_its_path_follows() -> None:
    """on_timeout: time for the whole child."""
    flow = [tell_slow.on_timeout(hold_car).on_refused(), note]
    spec = given(Saga("children_slow", version=1, starts_on=TripWanted, flow=flow), WANTED)
    spec.then(asked(TellHotel(telling="b")), awaits(HotelSaidYes))
    spec.when(elapsed(hours=1))
    assert [output.kind for output in spec.outputs] == ["settling", "compensated hotel_slow", "asked"]
    spec.when(CAR).then(asked(NOTE))


def test_a_child_that_ends_while_its_undo_is_on_its_way_is_undone_all_the_same() -> None:
    """Rule 25: the request stands and is answered definitely."""
    spec = given(PARENT, WANTED, CAR, run_children=False).when(CANCEL).then(settling(book_hotel))
    spec.world.give(spec.world.main, ChildAnswer("book_hotel", 1, "completed", {"room": "R"}))
    assert spec.state.activities["book_hotel"].status == "unknown"
    spec.when(settled_not_done(book_hotel)).then(asked(FREE_CAR), compensated(ENOUGH))


def test_a_child_that_completed_is_remembered_until_its_answer_to_the_undo_says_whether_it_can_be_undone() -> None:
    """Rule 25: its two answers may change places; the parent dropped the first and waited for ever."""
    flow = [tell_slow.on_timeout(hold_car), note]
    spec = given(Saga("children_early", version=1, starts_on=TripWanted, flow=flow), WANTED, run_children=False)
    spec.when(elapsed(hours=1))
    spec.world.give(spec.world.main, ChildAnswer("tell_slow", 1, "completed", {"told": "b"}))
    assert types(spec)[-1] == "child.completed_early"
    assert spec.state.activities["tell_slow"].status == "unknown", "it may yet be undone"
    spec.world.give(spec.world.main, ChildAnswer("tell_slow", 1, "pivot_passed"))
    assert types(spec)[-3:] == ["cancel.refused", "child.completed", "step.requested"]
    assert spec.state.activities["tell_slow"].result == {"told": "b"}


def test_a_child_inside_a_closing_scope_is_asked_to_undo_and_the_handler_waits() -> None:
    """S3: running children inside."""
    body = scope(book_hotel).on_event(TripWithdrawn, note)
    saga = Saga("children_scope", version=1, starts_on=TripWanted, flow=[body, hold_car])
    spec = given(saga, WANTED).when(arrived(TripWithdrawn(trip="t-1")))
    spec.then(settling(book_hotel), settling(child_room))
    spec.when(settled_not_done(child_room))
    assert spec.outputs[-1].text == asked(NOTE).text
    spec.when(NOTED).then(asked(HOLD_CAR))


def test_a_child_of_a_child_is_undone_through_its_parent() -> None:
    """Rule 25, transitively."""
    saga = Saga("children_deep", version=1, starts_on=TripWanted, flow=[make_plan, hold_seat])
    spec = given(saga, WANTED, HELD, CHILD_NOTED).when(refused(hold_seat))
    kinds = [output.kind for output in spec.outputs]
    assert kinds == ["unwinding", "unwinding", "asked", "compensated hotel", "compensated planning", "compensated"]
