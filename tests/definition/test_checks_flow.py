"""What the check refuses about the shape of a flow: names, choices, waiting, loops, contracts (20x to 24x)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from orchestrator import (
    Command,
    Done,
    Escalate,
    Event,
    Key,
    Person,
    Role,
    Saga,
    choose,
    compute,
    delay,
    end,
    fail,
    for_each,
    keep,
    leave,
    parallel,
    publish,
    repeat,
    scope,
    step,
    task,
    wait_for,
    when,
)
from tests.definition.world import (
    DAY,
    Cancelled,
    Held,
    Hold,
    Mood,
    MoodForm,
    Note,
    Paid,
    Part,
    Placed,
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


def other(name: str) -> Any:
    """Another step whose function has this name."""

    def function(placed: Placed) -> Note:
        return Note(text=placed.order_id)

    function.__name__ = name
    return step(undo=None)(function)


# 20x: structure


def test_two_steps_of_one_name_are_refused_wherever_they_stand() -> None:
    found = findings(note, when(is_large, other("note")))
    assert [finding.code for finding in found] == ["ORC201"]
    assert "two things are called note" in found[0].text


def test_a_second_undo_is_refused() -> None:
    @step
    def take(placed: Placed) -> Hold:
        return Hold(order_id="")

    @take.undo
    def back(held: Held) -> Note:
        return Note(text="")

    @take.undo
    def back_again(held: Held) -> Note:
        return Note(text="")

    assert codes(take) == ["ORC201"]


@pytest.mark.parametrize("name", ["a/b", "a[1]", "", "a b"])
def test_a_name_that_would_confuse_activity_ids_is_refused(name: str) -> None:
    if name:
        assert codes(note.named(name)) == ["ORC201"]
    with pytest.raises(ValueError, match="ORC201"):
        Saga(name, version=1, starts_on=Placed, flow=[note])


def test_a_step_may_stand_on_two_paths_but_not_twice_on_one() -> None:
    saga(choose(is_large).on(True, note).on(False, note))
    assert codes(choose(is_large).on(True, note).on(False), note.named("end_note"), when(is_large, note)) == ["ORC201"]
    assert codes(choose(mood).on(Mood.GLAD, note).otherwise(), scope(note)) == ["ORC202"]
    assert codes(parallel([send, note], [hold, note])) == ["ORC202"]
    assert codes(for_each(parts, note), scope(note)) == ["ORC202"]


def test_the_failure_path_may_repeat_a_step_of_the_flow() -> None:
    saga(note, hold, on_failed=note)


def test_a_path_that_nothing_leads_to_is_refused() -> None:
    assert codes(repeat(note, leave(), at_most=3).otherwise(send)) == ["ORC203"]
    assert codes(choose(mood).on(list(Mood), note).otherwise()) == ["ORC203"]
    assert codes(feel.on(Mood.GLAD).on(Mood.SAD).on(Mood.MAD).otherwise(note)) == ["ORC203"]


def test_flow_after_every_path_ended_is_reported_once() -> None:
    found = findings(when(is_large, end("a")).otherwise(fail("b")), note, send)
    assert [finding.code for finding in found] == ["ORC204"]
    assert found[0].text == "step note is never reached: every path has ended at when(is_large)"
    assert codes(repeat(note, at_most=3), send) == ["ORC204"], "no leave(), no otherwise: it always turns back"


def test_an_on_failed_without_a_failure_is_refused() -> None:
    assert codes(scope(publish(closed)).on_failed(note), hold) == ["ORC205"]
    assert codes(send, on_failed=note, forward_only=True) == ["ORC205"]
    saga(scope(wait_for(Paid, within=DAY)).on_failed(), hold)
    saga(scope(publish(closed), when(is_large, fail("no"))).on_failed(), hold)
    saga(scope(hold.on_refused()).on_failed(), note)
    assert codes(scope(hold.on_refused().on_exhausted()).on_failed(), note) == ["ORC205"]


def test_end_is_refused_where_others_still_run() -> None:
    assert codes(for_each(parts, note, end("done"))) == ["ORC206"]
    assert codes(parallel(scope(note, end("done")), send)) == ["ORC206"]
    saga(repeat(note, end("done"), at_most=2))


def test_keep_needs_a_scope_or_an_item() -> None:
    assert codes(hold, keep(), send) == ["ORC208"]
    assert codes(repeat(hold, keep(), leave(), at_most=2)) == ["ORC208"]
    assert codes(scope(hold).on_event(Cancelled, keep(), note)) == ["ORC208"], "a handler lies outside its scope"
    saga(for_each(parts, note, keep()))


def test_a_plain_function_in_a_flow_is_refused_with_the_word_that_was_meant() -> None:
    found = findings(hold, closed)
    assert "publish(closed)" in dict(found[0].rows)["do"]
    assert codes(hold, 5, "note") == ["ORC209", "ORC209"]


# 21x: choices


def test_every_value_and_outcome_needs_a_path() -> None:
    found = findings(choose(mood).on(Mood.GLAD, note), send)
    assert found[0].text == "choose(mood): no path for value sad, mad"
    assert codes(feel.on(Mood.GLAD), note) == ["ORC211"]
    saga(ask, note)  # a plain approval goes on, or turns back


def test_an_outcome_of_which_one_vote_decides_turns_back_without_a_path() -> None:
    @task(to=Role("boss"), within=DAY, answer=MoodForm, rejects=[Mood.MAD])
    def judge(placed: Placed) -> Shown:
        return Shown()

    saga(judge.on(Mood.GLAD).on(Mood.SAD), note)


def test_two_paths_for_one_value_are_refused() -> None:
    assert codes(choose(mood).on(Mood.GLAD, note).on([Mood.GLAD, Mood.SAD], send).otherwise()) == ["ORC212"]
    assert codes(hold.on_refused(note).on_refused(send)) == ["ORC212"]
    assert codes(scope(hold).on_event(Paid, note).on_event(Paid, send)) == ["ORC212"]


def test_a_condition_has_a_fixed_set_of_values() -> None:
    def text(placed: Placed) -> str:
        return ""

    assert codes(when(text, note)) == ["ORC213"]  # type: ignore[arg-type]
    assert codes(when(mood, note)) == ["ORC213"]  # type: ignore[arg-type]
    assert codes(choose(text).on("a", note)) == ["ORC213"]


# 22x: waiting


class Keyless(Event):
    text: str


class Wide(Event):
    order_id: Key[str]
    line: Key[int]


def a_key(placed: Placed) -> str:
    return Wide.key_of(placed.order_id, 1)


def another_key(placed: Placed) -> str:
    return Wide.key_of(placed.order_id, 2)


@pytest.mark.parametrize(
    "word",
    [
        wait_for(Keyless, within=DAY),
        scope(hold).on_event(Keyless, note),
        ask.amend_on(Keyless),
        ask.on_event(Keyless, note),
    ],
)
def test_an_event_without_key_finds_no_saga(word: Any) -> None:
    assert codes(word, send) == ["ORC221"]


def test_a_start_message_without_key_is_refused() -> None:
    assert codes(end(), starts_on=Keyless) == ["ORC221"]
    assert codes(end(), starts_on=[Placed, Wide]) == ["ORC225"]
    assert codes(wait_for(Wide, within=DAY)) == ["ORC225"]
    saga(wait_for(Wide, within=DAY, match=a_key))


def test_two_branches_may_not_wait_for_the_same() -> None:
    paid = wait_for(Paid, within=DAY)
    assert codes(parallel(paid, [note, paid.named("too")])) == ["ORC222"]
    assert codes(parallel(scope(hold).on_event(Paid, note), paid)) == ["ORC222"]
    assert codes(
        parallel(wait_for(Wide, within=DAY, match=a_key), wait_for(Wide, within=DAY, match=a_key).named("too"))
    ) == ["ORC222"]
    saga(parallel(wait_for(Wide, within=DAY, match=a_key), wait_for(Wide, within=DAY, match=another_key).named("too")))
    saga(paid, paid.named("then_again"))


def test_a_wait_inside_a_scope_that_takes_the_event_first_gets_nothing() -> None:
    paid = wait_for(Paid, within=DAY)
    assert codes(scope(hold, paid).on_event(Paid, note)) == ["ORC222"]
    assert codes(scope(scope(hold).on_event(Paid, note)).on_event(Paid, send)) == ["ORC222"]
    assert codes(scope(ask.amend_on(Paid)).on_event(Paid, note)) == ["ORC222"]
    saga(scope(hold).on_event(Paid, wait_for(Paid, within=DAY)))  # the handler lies outside


def test_items_that_wait_need_keys_of_their_own() -> None:
    def part_key(placed: Placed, part: Part) -> str:
        return Wide.key_of(placed.order_id, part.number)

    assert codes(for_each(parts, wait_for(Paid, within=DAY, early=False), at_once=2)) == ["ORC222"]
    saga(for_each(parts, wait_for(Wide, match=part_key, within=DAY), at_once=2))
    saga(for_each(parts, wait_for(Paid, within=DAY, early=False), at_once=1))


def test_a_wait_in_a_repeat_says_since_when() -> None:
    paid = wait_for(Paid, within=DAY).then(leave()).on_timeout()
    assert codes(repeat(note, paid, at_most=3).otherwise()) == ["ORC223"]
    saga(repeat(note, wait_for(Paid, within=DAY, early=True).then(leave()).on_timeout(), at_most=3).otherwise())
    saga(repeat(note, wait_for(Paid, within=DAY, since=note).then(leave()).on_timeout(), at_most=3).otherwise())
    saga(repeat(note, leave(), at_most=2), wait_for(Paid, within=DAY))


def test_since_names_a_step_that_was_asked() -> None:
    assert codes(wait_for(Paid, within=DAY, since=hold), note) == ["ORC224"]
    saga(hold, wait_for(Paid, within=DAY, since=hold), note)


# 23x: loops


def test_leave_leaves_a_repeat_and_nothing_else() -> None:
    assert codes(note, leave()) == ["ORC232"]
    assert codes(repeat(for_each(parts, note, leave()), at_most=2).otherwise()) == ["ORC232"]
    assert codes(repeat(note, at_most=2).otherwise(leave())) == ["ORC232"]
    saga(repeat(scope(note, leave()).on_event(Cancelled, leave()), at_most=2))


def test_a_loop_has_a_bound_of_at_least_one() -> None:
    assert codes(for_each(parts, note, at_once=0)) == ["ORC231"]


def test_a_limit_is_a_time_that_can_pass() -> None:
    nothing = timedelta(0)
    assert codes(delay(nothing), note) == ["ORC234"]
    assert codes(wait_for(Paid, within=-DAY)) == ["ORC234"]
    assert codes(scope(hold, within=nothing).on_timeout(note)) == ["ORC234"]
    assert codes(step(undo=None, within=nothing)(note.function)) == ["ORC234"]
    assert codes(note, within=nothing) == ["ORC234"]

    @step
    def take(placed: Placed) -> Hold:
        return Hold(order_id="")

    @take.undo(within=nothing)
    def back(held: Held) -> Note:
        return Note(text="")

    assert codes(take) == ["ORC234"]
    late = task(to=Role("boss"), within=DAY, escalate=[Escalate(after=DAY, to=Role("chief"))])
    assert codes(late(ask.function), note) == ["ORC234"]


# 24x: what functions return


def test_a_function_returns_what_its_place_expects() -> None:
    def text(placed: Placed) -> str:
        return ""

    def number(placed: Placed) -> int:
        return 1

    def when_(placed: Placed) -> datetime:
        return datetime.fromtimestamp(0).astimezone()

    wrong: Any = text
    also_wrong: Any = number
    assert codes(hold, fail(also_wrong)) == ["ORC244"]
    assert codes(for_each(also_wrong, note)) == ["ORC244"]
    assert codes(delay(wrong), note) == ["ORC244"]
    assert codes(end("done", result=wrong)) == ["ORC244"]
    assert codes(wait_for(Paid, within=DAY, match=also_wrong)) == ["ORC244"]
    assert codes(task(to=wrong, within=DAY)(ask.function), note) == ["ORC244"]
    assert codes(task(to=Role("boss"), within=DAY, exclude=[wrong])(ask.function), note) == ["ORC244"]
    saga(delay(when_), note)


def test_an_undo_builds_a_command_as_well() -> None:
    @step
    def take(placed: Placed) -> Hold:
        return Hold(order_id="")

    undo: Any = take.undo
    undo(closed)
    assert codes(take) == ["ORC241"]


class Homeless(Command[Done]):
    text: str


def test_an_undo_needs_a_participant_as_well() -> None:
    @step
    def take(placed: Placed) -> Hold:
        return Hold(order_id="")

    @take.undo
    def back(held: Held) -> Homeless:
        return Homeless(text="")

    assert codes(take) == ["ORC243"]


def test_people_are_given_one_by_one_or_several() -> None:
    def one(placed: Placed) -> Person:
        return Person("maria")

    def several(placed: Placed) -> list[Person]:
        return [Person("maria")]

    def mixed(placed: Placed) -> list[Role | Person]:
        return [Role("boss")]

    saga(task(to=one, within=DAY, exclude=[several])(ask.function), note)
    saga(task(to=mixed, within=timedelta(days=2))(ask.function), compute(parts), note)
