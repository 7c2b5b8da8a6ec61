"""Outputs: what a saga asks, tells and shows, as a specification expects it and as it is read from records.

Rules of this file
- An output is what others can see. Derivations, branches and bookkeeping are not outputs.
- A command counts once per round: sending it again because nobody answered is the same message.
- What is expected and what happened are the same type, so that a difference can be printed line by line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import BaseModel

from orchestrator.definition.steps import Call, Step
from orchestrator.definition.tasks import Task
from orchestrator.definition.words import text_of
from orchestrator.kernel.graph import indices
from orchestrator.kernel.inputs import Refusal
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.messages import Command, Contract, ContractError, Event, Reply, plain
from orchestrator.testing.known import At, Definition, Place, author_name, indices_of, place_name

ANY: Any = object()  # matches whatever is there


@dataclass(frozen=True, slots=True)
class Output:
    """One thing that others can see. `text` is how it is printed; `body` is plain JSON, or ANY."""

    kind: str
    what: str
    text: str
    body: Any = ANY
    at: tuple[int, ...] | None = None

    def fits(self, got: Output) -> bool:
        """True where `got` is what this one expects; what was left unsaid fits everything."""
        if (self.kind, self.what) != (got.kind, got.what):
            return False
        same_place = self.at is None or self.at == got.at
        return same_place and (self.body is ANY or self.body == got.body)


def _at_text(at: tuple[int, ...] | None) -> str:
    if not at:
        return ""
    return f", at={at[0] if len(at) == 1 else at}"


def _message(kind: str, message: Contract, at: At = None) -> Output:
    where = indices_of(at)
    return Output(kind, message.wire_name, f"{kind}({message!r}{_at_text(where)})", message.plain(), where)


def _named(kind: str, place: Place, at: At = None, body: Any = ANY, more: str = "") -> Output:
    where, name = indices_of(at), place_name(place)
    return Output(kind, name, f"{kind}({name}{_at_text(where)}{more})", body, where)


def asked(command: Command[Any] | Event, *, at: At = None) -> Output:
    """A participant is asked (or asked to undo), or a child saga is started with this message."""
    return _message("asked", command, at)


def published(event: Event, *, at: At = None) -> Output:
    """A domain event goes out."""
    return _message("published", event, at)


def settling(step: Step[..., Any] | Call[..., Any], *, at: At = None) -> Output:
    """The outcome of this step is unknown and is asked for; of a running child: it is asked to undo itself."""
    return _named("settling", step, at)


def unwinding(call: Call[..., Any], *, at: At = None) -> Output:
    """A child saga that had completed is asked to undo itself."""
    return _named("unwinding", call, at)


def opened(task: Task[..., Any, Any], shown: BaseModel | None = None, *, at: At = None) -> Output:
    """A task is put to people. `shown`: what they see; left out, anything."""
    body = ANY if shown is None else _plain(shown)
    return _named("opened", task, at, body, "" if shown is None else f", {shown!r}")


def amended(task: Task[..., Any, Any], shown: BaseModel | None = None, *, at: At = None) -> Output:
    """What people see was built anew; earlier votes are void."""
    body = ANY if shown is None else _plain(shown)
    return _named("amended", task, at, body, "" if shown is None else f", {shown!r}")


def escalated(task: Task[..., Any, Any], *, at: At = None) -> Output:
    """More people may decide from now on."""
    return _named("escalated", task, at)


def reminded(task: Task[..., Any, Any], *, at: At = None) -> Output:
    """People are reminded; nothing else changes."""
    return _named("reminded", task, at)


def awaits(event: type[Event], *, at: At = None) -> Output:
    """The saga waits for such an event."""
    where = indices_of(at)
    return Output("awaits", event.wire_name, f"awaits({event.__name__}{_at_text(where)})", at=where)


def entered(state: Enum) -> Output:
    """The business life cycle is in this state now."""
    return Output("entered", text_of(state), f"entered({text_of(state)!r})")


def ended(outcome: str = "completed", result: Reply | None = None, *, of: Definition | None = None) -> Output:
    """The saga ended well. `result`: what its caller gets; left out, anything. `of`: a child saga's ending."""
    more = "" if result is None else f", {result!r}"
    return _ending("ended", outcome, ANY if result is None else result.plain(), more, _name_of(of))


def compensated(reason: str, *, of: Definition | None = None) -> Output:
    """The saga went back, and everything that it had done is undone."""
    return _ending("compensated", reason, ANY, "", _name_of(of))


def _name_of(definition: Definition | None) -> str:
    return definition.program.graph.name if definition is not None else ""


def _ending(kind: str, outcome: str, body: Any, more: str, of: str) -> Output:
    text = f"{kind}({outcome!r}{more}{f', of={of}' if of else ''})"
    return Output(f"{kind} {of}".strip(), outcome, text, body)


def stuck(place: Place, cause: str | None = None, *, at: At = None) -> Output:
    """Only a person can move this place now. `cause`: unknown, refused, undo, function, …; left out, any."""
    return _named("stuck", place, at, ANY if cause is None else cause, "" if cause is None else f", {cause!r}")


def denied(code: str) -> Output:
    """What a person asked for may not be (see `Refusal`): excluded, expired, already_turning, …"""
    return Output("denied", code, f"denied({code!r})")


def denial(refusal: Refusal) -> Output:
    """A refusal as an output; its sentence is printed."""
    return Output("denied", refusal.code, f"denied({refusal.code!r})  # {refusal.text}")


def _plain(shown: BaseModel) -> Any:
    return shown.plain() if isinstance(shown, Contract) else plain(shown.model_dump())


def outputs_of(
    definition: Definition, records: Sequence[Record], state: State, *, is_main: bool = True
) -> Iterator[Output]:
    """What these records let others see; `state` is the one after them."""
    for record in records:
        reader = _READERS.get(record.type)
        if reader is not None and (found := reader(definition, record, state, is_main)) is not None:
            yield found


def _where(record: Record) -> tuple[int, ...]:
    return indices(record.activity)


def _message_of(kind: str, definition: Definition, record: Record, type_: str, body: Any) -> Output:
    where = _where(record)
    known = {contract.wire_name: contract for contract in definition.contracts}
    try:
        text = repr(known[type_].from_plain(body))
    except (KeyError, ContractError):
        text = f"{type_}: {body}"
    return Output(kind, type_, f"{kind}({text}{_at_text(where)})", body, where)


def _node(kind: str, definition: Definition, record: Record, body: Any = None, more: str = "") -> Output:
    name, where = author_name(definition, record.activity), _where(record)
    return Output(kind, name, f"{kind}({name}{_at_text(where)}{more})", body, where)


def _is_first(record: Record) -> bool:
    """The first attempt of a round, or the first after an operator's retry."""
    base: int = record.data.get("base", 0)
    return bool(record.data["attempt"] == base + 1)


def _asked(definition: Definition, record: Record, state: State, is_main: bool) -> Output | None:
    if not _is_first(record):
        return None
    command = record.data.get("command") or state.activities[record.activity].command or {}
    return _message_of("asked", definition, record, command["type"], command["body"])


def _undo(definition: Definition, record: Record, state: State, is_main: bool) -> Output | None:
    if not _is_first(record):
        return None
    undo = state.activities[record.activity].undo
    command = record.data.get("command") or (undo.command if undo else None)
    if command is None:
        return _node("unwinding", definition, record)
    return _message_of("asked", definition, record, command["type"], command["body"])


def _settling(definition: Definition, record: Record, state: State, is_main: bool) -> Output | None:
    return _node("settling", definition, record) if _is_first(record) else None


def _child(definition: Definition, record: Record, state: State, is_main: bool) -> Output:
    command = record.data["command"]
    return _message_of("asked", definition, record, command["type"], command["body"])


def _task(kind: str) -> Callable[[Definition, Record, State, bool], Output]:
    def read(definition: Definition, record: Record, state: State, is_main: bool) -> Output:
        shown = record.data.get("shown")
        return _node(kind, definition, record, shown, "" if shown is None else f", shown: {shown}")

    return read


def _published(definition: Definition, record: Record, state: State, is_main: bool) -> Output:
    event = record.data["event"]
    return _message_of("published", definition, record, event["type"], event["body"])


def _awaits(definition: Definition, record: Record, state: State, is_main: bool) -> Output:
    type_, where = record.data["wants"][0]["type"], _where(record)
    return Output("awaits", type_, f"awaits({type_.rpartition('.')[2]}{_at_text(where)})", None, where)


def _entered(definition: Definition, record: Record, state: State, is_main: bool) -> Output:
    return Output("entered", record.data["state"], f"entered({record.data['state']!r})", None)


def _ended(definition: Definition, record: Record, state: State, is_main: bool) -> Output:
    result = record.data.get("result")
    more = "" if result is None else f", result: {result}"
    of = "" if is_main else definition.program.graph.name
    return _ending("ended", record.data["outcome"], result, more, of)


def _compensated(definition: Definition, record: Record, state: State, is_main: bool) -> Output:
    of = "" if is_main else definition.program.graph.name
    return _ending("compensated", record.data["reason"], None, "", of)


def _stuck(definition: Definition, record: Record, state: State, is_main: bool) -> Output:
    cause, reason = record.data["cause"], record.data["reason"].partition("\n")[0]
    place = record.data.get("at") or record.activity  # where a function raised: the node that it belongs to
    name, where = author_name(definition, place) if place else "", indices(place)
    return Output("stuck", name, f"stuck({name}{_at_text(where)}, {cause!r})  # {reason}", cause, where)


_READERS: dict[str, Callable[[Definition, Record, State, bool], Output | None]] = {
    "step.requested": _asked,
    "undo.requested": _undo,
    "fence.requested": _settling,
    "child.requested": _child,
    "task.opened": _task("opened"),
    "task.amended": _task("amended"),
    "task.escalated": _task("escalated"),
    "task.reminded": _task("reminded"),
    "event.awaited": _awaits,
    "event.published": _published,
    "state.entered": _entered,
    "saga.completed": _ended,
    "saga.compensated": _compensated,
    "saga.stuck": _stuck,
}
