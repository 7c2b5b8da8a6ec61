"""What the check refuses about turning back, the life cycle, children and people (30x and 40x)."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any

import pytest

from orchestrator import (
    Command,
    Done,
    Event,
    Key,
    Person,
    Reply,
    Role,
    Saga,
    call,
    choose,
    delay,
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
    task,
    wait_for,
    when,
)
from orchestrator.definition import Call
from tests.definition.world import (
    DAY,
    Cancelled,
    Held,
    Hold,
    Mood,
    Note,
    Paid,
    Placed,
    Send,
    Sent,
    Shown,
    ask,
    closed,
    codes,
    feel,
    findings,
    hold,
    is_large,
    mood,
    note,
    parts,
    saga,
    send,
)

# 30x: the pivot


def test_there_is_one_pivot_on_a_path() -> None:
    again = pivot(note)
    assert codes(pivot(send), again) == ["ORC301"]
    assert codes(pivot(send), forward_only=True) == ["ORC301"]
    assert codes(hold, on_failed=pivot(send)) == ["ORC301"]
    saga(when(is_large, pivot(send)).otherwise(again))


@pytest.mark.parametrize(
    "around",
    [
        parallel(pivot(send), note),
        for_each(parts, pivot(send)),
        repeat(pivot(send), leave(), at_most=2),
        scope(pivot(send)).on_event(Cancelled, note),
        scope(pivot(send), within=DAY).on_timeout(note),
        scope(pivot(send)).on_failed(note),
        scope(when(is_large, scope(pivot(send)))).on_failed(note),
        ask.on_approve(pivot(send)).on_event(Cancelled, note),
    ],
)
def test_a_pivot_does_not_stand_where_it_could_be_taken_back(around: Any) -> None:
    assert codes(around) == ["ORC302"]


def test_a_handler_or_a_plain_scope_may_hold_a_pivot() -> None:
    saga(scope(hold).on_event(Cancelled, pivot(send)))
    saga(scope(hold).on_failed(pivot(send)))
    saga(scope(pivot(send)))
    saga(when(is_large, pivot(send)))
    saga(repeat(note, at_most=2).otherwise(pivot(send)))


def test_a_step_before_the_pivot_has_an_undo_or_says_that_it_needs_none() -> None:
    @step
    def take(placed: Placed) -> Hold:
        return Hold(order_id="")

    @step(reads=True)
    def look(placed: Placed) -> Hold:
        return Hold(order_id="")

    assert codes(take, pivot(send)) == ["ORC303"]
    assert codes(take) == ["ORC303"], "without a pivot everything stands before it"
    saga(pivot(send), take)
    saga(take, forward_only=True)
    saga(hold, on_failed=take)
    saga(look, take.without_undo(), pivot(send))


def test_an_undo_that_can_never_run_is_refused() -> None:
    @step(reads=True)
    def look(placed: Placed) -> Hold:
        return Hold(order_id="")

    @look.undo
    def unlook(held: Held) -> Note:
        return Note(text="")

    @step(undo=None)
    def take(placed: Placed) -> Hold:
        return Hold(order_id="")

    @take.undo
    def back(held: Held) -> Note:
        return Note(text="")

    assert codes(look) == ["ORC304"]
    assert codes(take) == ["ORC304"]
    assert codes(pivot(hold)) == ["ORC304"]
    assert codes(pivot(send), hold) == ["ORC304"]
    assert codes(hold, forward_only=True) == ["ORC304"]
    assert codes(note, on_failed=hold) == ["ORC304"]
    saga(choose(is_large).on(True, pivot(send), hold).on(False, hold))  # it can run on the other path
    saga(pivot(send), hold.without_undo())


GIVES_UP: list[Any] = [
    fail("no"),
    ask.on_reject(note),
    ask.on_timeout(note),
    wait_for(Paid, within=DAY),
    repeat(note, when(is_large, leave()), at_most=3),
    scope(note, delay(DAY), within=DAY),
    scope(note).on_event(Cancelled, fail("off")),
    for_each(parts, wait_for(Paid, within=DAY, early=False)),
]


@pytest.mark.parametrize("word", GIVES_UP)
def test_what_may_give_up_needs_a_path_after_the_pivot_and_on_failure_paths(word: Any) -> None:
    assert codes(pivot(send), word) == ["ORC305"]
    assert codes(send.named("before"), word, forward_only=True) == ["ORC305"]
    assert codes(hold, on_failed=[word]) == ["ORC305"]
    saga(hold, word)


def test_what_has_a_path_may_stand_after_the_pivot() -> None:
    saga(
        pivot(send),
        note,  # asked until it is done
        ask.on_reject(note.named("sorry")).on_timeout(),
        wait_for(Paid, within=DAY).on_timeout(),
        scope(delay(DAY), within=DAY).on_timeout(),
        repeat(note.named("again"), at_most=3).otherwise(),
        on_failed=wait_for(Paid, within=DAY).on_timeout(),
    )


def test_the_message_says_where_there_is_no_way_back() -> None:
    late = wait_for(Paid, within=DAY)
    assert findings(pivot(send), late)[0].text.endswith("after the pivot")
    assert findings(send, late, forward_only=True)[0].text.endswith("in a forward-only saga")
    assert findings(hold, on_failed=late)[0].text.endswith("on the failure path")


def test_a_scope_is_not_undone_after_the_pivot() -> None:
    assert codes(pivot(send), scope(note).on_failed()) == ["ORC306"]
    assert codes(hold, on_failed=scope(note).on_failed()) == ["ORC306"]


# Children


class Start(Command[Sent]):
    order_id: Key[str]


@step(undo=None)
def ship(start: Start) -> Send:
    return Send(order_id=start.order_id)


def result(sent: Sent) -> Sent:
    return sent


def child(*flow: Any, **options: Any) -> Call[..., Any]:
    """A call of a saga with this flow that starts on Start."""

    @call(Saga("child", version=1, starts_on=Start, flow=list(flow), **options))
    def go(placed: Placed) -> Start:
        return Start(order_id=placed.order_id)

    return go


def test_a_child_that_may_fail_needs_a_path_after_the_pivot() -> None:
    may_fail = child(ship, end("done", result=result))
    cannot = child(ship.on_refused(end("no", result=nothing)).on_exhausted(fail_never), end("done", result=result))
    late = child(
        ship.on_refused(end("no", result=nothing)).on_exhausted(fail_never), end("done", result=result), within=DAY
    )
    saga(hold, may_fail)
    assert codes(pivot(send), may_fail) == ["ORC305"]
    assert codes(hold, on_failed=may_fail) == ["ORC305"]
    saga(pivot(send), may_fail.on_refused())
    saga(pivot(send), cannot)
    assert codes(pivot(send), late) == ["ORC305"], "its deadline may pass"


def nothing(start: Start) -> Sent:
    return Sent(parcel="")


fail_never = end("given up", result=nothing)


def test_a_child_fails_through_its_own_children_too() -> None:
    inner = Saga("inner", version=1, starts_on=Start, flow=[ship, end("done", result=result)])

    @call(inner)
    def go_deeper(start: Start) -> Start:
        return start

    assert Saga("outer", version=1, starts_on=Start, flow=[go_deeper, end("done", result=result)]).may_fail
    forgiving = [go_deeper.on_refused(end("no", result=nothing)), end("done", result=result)]
    assert not Saga("outer", version=1, starts_on=Start, flow=forgiving).may_fail


def test_a_call_that_may_expire_needs_a_path_after_the_pivot() -> None:
    @call(Saga("child", version=1, starts_on=Start, flow=[pivot(ship), end("done", result=result)]), within=DAY)
    def go(placed: Placed) -> Start:
        return Start(order_id="")

    assert codes(pivot(send), go.on_refused()) == ["ORC305"]
    saga(pivot(send), go.on_refused().on_timeout())
    assert codes(go.on_timeout(note)) == ["ORC307"]


def test_a_call_of_a_child_with_a_pivot_is_a_pivot() -> None:
    pivots = child(pivot(ship), end("done", result=result))
    assert codes(hold, pivots) == ["ORC307"]
    assert codes(hold, child(ship, end("done", result=result), forward_only=True)) == ["ORC307"]
    saga(hold, pivot(pivots))
    saga(pivot(send), pivots.on_refused())
    assert codes(parallel(pivot(pivots), note)) == ["ORC302"]


def test_a_child_passes_its_pivot_whenever_it_completes() -> None:
    sometimes = child(when(is_heavy, pivot(ship)).otherwise(ship), end("done", result=result))
    found = findings(hold, pivot(sometimes))
    assert [finding.code for finding in found] == ["ORC308"]
    assert dict(found[0].rows)["path"] == 'when(is_heavy) not taken, end("done")'


def is_heavy(start: Start) -> bool:
    return True


class Other(Reply):
    text: str


def other_result(start: Start) -> Other:
    return Other(text="")


def test_a_child_gives_the_promised_result_at_every_good_end() -> None:
    assert codes(hold, child(ship)) == ["ORC403"]
    assert codes(hold, child(ship, end("done", result=other_result))) == ["ORC403"]
    assert codes(hold, child(when(is_heavy, end("no")), ship, end("done", result=result))) == ["ORC403"]
    saga(hold, child(when(is_heavy, fail("too heavy")), ship, end("done", result=result)))


class Ordered(Event):
    order_id: Key[str]


class Simple(Command[Done]):
    order_id: Key[str]


@pytest.mark.parametrize("start", [Ordered, Simple])
def test_a_child_that_promises_nothing_needs_no_result(start: Any) -> None:
    def go(placed: Placed) -> Any: ...

    go.__annotations__["return"] = start
    saga(hold, call(Saga("child", version=1, starts_on=start, flow=[end("done")]))(go))


# The life cycle


class Life(Enum):
    NEW = "new"
    OPEN = "open"
    DONE = "done"
    LOST = "lost"


STATES = {Life.NEW: [Life.OPEN], Life.OPEN: [Life.DONE, Life.LOST], Life.DONE: [], Life.LOST: []}


def test_transitions_are_checked_on_every_path() -> None:
    found = findings(when(is_large, enter(Life.OPEN)), enter(Life.DONE), states=STATES)
    assert [finding.code for finding in found] == ["ORC401"]
    assert found[0].text == "enter(Life.DONE): from new to done is not allowed"
    assert dict(found[0].rows)["path"] == "when(is_large) not taken"
    saga(enter(Life.OPEN), when(is_large, enter(Life.DONE)).otherwise(enter(Life.LOST)), states=STATES)
    saga(enter(Life.NEW), enter(Life.OPEN), states=STATES)  # to enter the state that it is in is no transition


def test_transitions_are_checked_after_interruptions_and_failures() -> None:
    waiting = [enter(Life.OPEN), wait_for(Paid, within=DAY), enter(Life.DONE)]
    saga(scope(waiting).on_event(Cancelled, enter(Life.LOST)), states=STATES, on_failed=enter(Life.LOST))
    after = [*waiting, delay(DAY)]
    assert codes(scope(after).on_event(Cancelled, enter(Life.LOST)), states=STATES) == ["ORC401"]
    assert codes(after, states=STATES, on_failed=enter(Life.LOST)) == ["ORC401"]
    after_pivot = [enter(Life.OPEN), pivot(send), enter(Life.DONE), note]
    saga(after_pivot, states=STATES, on_failed=enter(Life.LOST))


def test_branches_side_by_side_may_meet_each_others_states() -> None:
    assert codes(enter(Life.OPEN), parallel([note, enter(Life.DONE)], [send, enter(Life.LOST)]), states=STATES) == [
        "ORC401",
        "ORC401",
    ]


def test_a_loop_may_enter_a_state_again() -> None:
    assert codes(repeat(note, enter(Life.OPEN), enter(Life.DONE), at_most=2).otherwise(), states=STATES) == ["ORC401"]


def test_states_are_declared() -> None:
    assert codes(enter(Life.OPEN)) == ["ORC402"]
    assert codes(enter(Mood.GLAD), states=STATES) == ["ORC402"]


# People


def test_four_eyes_need_a_decision_before() -> None:
    @task(to=Role("boss"), within=DAY, exclude=[ask])
    def second(placed: Placed) -> Shown:
        return Shown()

    assert codes(second, ask) == ["ORC404"]
    assert codes(second, note) == ["ORC404"]
    assert codes(parallel(second, ask)) == ["ORC404"]
    saga(when(is_large, ask), second)
    saga(ask, note, second)


@pytest.mark.parametrize(
    ("options", "is_enough"),
    [
        ({"to": []}, False),
        ({"to": Person("a"), "votes": 2}, False),
        ({"to": [Person("a"), Person("a")], "votes": 2}, False),
        ({"to": [Person("a"), Person("b")], "votes": 2}, True),
        ({"to": Role("boss"), "votes": 5}, True),
        ({"to": Role("boss"), "votes": 0}, False),
    ],
)
def test_a_task_can_be_decided(options: dict[str, Any], is_enough: bool) -> None:
    word = task(within=timedelta(days=1), **options)(ask.function)
    if is_enough:
        saga(word, note)
    else:
        assert codes(word, note) == ["ORC405"]


def test_moods_are_complete() -> None:
    saga(feel.on(Mood.GLAD).otherwise(), choose(mood).on(list(Mood), publish(closed)))
