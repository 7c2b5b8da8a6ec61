"""A schedule in words: what came, who sent it, and what the saga recorded.

Rules of this file
- One line for what came, one for each record that it led to. Lines are made only when somebody reads them.
- Ids of sagas are left out where there is only one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from orchestrator.kernel.inputs import (
    Answer,
    Arrived,
    Cancel,
    ChildAnswer,
    Operate,
    Resume,
    SendRefused,
    Start,
    TaskAct,
    TimerDue,
    UndoAsked,
    Vote,
)
from orchestrator.kernel.records import Record

SECOND = 1_000_000
EPOCH = 1_767_225_600 * SECOND  # when every schedule begins: 2026-01-01
INSTANTS = frozenset({"due", "was_due", "expires", "deadline"})
VALUE_CHARACTERS_MAX = 70
HIDDEN = frozenset(
    {"command", "takes", "gives", "event", "result", "form_schema", "shown", "hash", "at", "tenant", "saga_id"}
    | {
        "version",
        "undoable",
        "reads",
        "pivot",
        "data",
        "arrived_at",
        "opened_at",
        "people",
        "decision",
        "base",
        "wants",
    }
)


class Entry(NamedTuple):
    """One line of a schedule: when (microseconds since it began), which saga, and an input or a record."""

    at: int
    saga_id: str
    what: Any


def told(entries: Iterable[Entry], names: dict[str, str]) -> list[str]:
    """The lines of a schedule. `names`: of the sagas, by id."""
    several = len({entry.saga_id for entry in entries if entry.saga_id}) > 1
    lines = []
    for at, saga_id, what in entries:
        which = f"{names.get(saga_id, 'saga')} {saga_id[:8]}: " if several and saga_id else ""
        if isinstance(what, Record):
            lines.append(f"{'':>12}   -> {_record(what)}")
        else:
            lines.append(f"{_clock(at):>12} {which}{_input(what)}")
    return lines


def _clock(at: int) -> str:
    seconds, rest = divmod(at, SECOND)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" + (f".{rest // 1000:03}" if rest else "")


def _input(given: Any) -> str:
    teller = TELLERS.get(type(given))
    return teller(given) if teller else str(given)


def _answer(given: Answer) -> str:
    asked = {"do": "", "undo": "the undo of ", "fence": "what became of ", "fence_undo": "what became of the undo of "}
    why = f" ({given.reason})" if given.reason else ""
    where = f", attempt {given.attempt}" + (f" of round {given.round}" if given.round > 1 else "")
    who, what = given.participant or "a participant", f"{asked[given.purpose]}{given.activity}{where}"
    return f"{who} answers {what}: {given.outcome}{why}"


def _vote(given: Vote) -> str:
    for_ = f" for {given.on_behalf_of}" if given.on_behalf_of else ""
    return f"{given.by}{for_} votes {given.answer.get('outcome')} on {given.activity}"


def _task_act(given: TaskAct) -> str:
    to = f" to {list(given.to)}" if given.to else ""
    return f"{given.by}: {given.act}{to} on {given.activity}"


def _operate(given: Operate) -> str:
    outcome = f" as {given.outcome}" if given.outcome else ""
    return f"operator {given.by}: {given.act}{outcome} {given.place}, as stuck in record {given.version}"


def _timer(given: TimerDue) -> str:
    return f"the time of {given.activity or 'the saga'} is over"


def _child(given: ChildAnswer) -> str:
    return f"the child of {given.activity} answers: {given.outcome}" + (f" ({given.reason})" if given.reason else "")


TELLERS: dict[type, Any] = {
    Start: lambda given: f"start: {given.type}, key {given.business_key}",
    Answer: _answer,
    TimerDue: _timer,
    Arrived: lambda given: f"event {given.type}, key {given.key}, {given.event_id}",
    Vote: _vote,
    TaskAct: _task_act,
    ChildAnswer: _child,
    UndoAsked: lambda given: "the parent asks for the undo",
    Cancel: lambda given: f"{given.by} cancels: {given.reason}",
    Operate: _operate,
    SendRefused: lambda given: f"the broker refuses message {given.version} for good: {given.reason}",
    Resume: lambda given: "goes on where the last turn stopped",
}


def _record(record: Record) -> str:
    said = [f"{name}={_value(name, value)}" for name, value in record.data.items() if _tells(name, value)]
    return " ".join([record.type, *([record.activity] if record.activity else []), *said])


def _value(name: str, value: Any) -> str:
    return _clock(value - EPOCH) if name in INSTANTS else f"{value!r:.{VALUE_CHARACTERS_MAX}}"


def _tells(name: str, value: Any) -> bool:
    return name not in HIDDEN and value not in (None, "", 0, False, [], {}) and not (name == "round" and value == 1)
