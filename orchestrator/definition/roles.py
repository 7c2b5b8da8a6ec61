"""The functions of each node, by role, and what each role must return (codes 213, 241–244).

Rules of this file
- A function is known to the kernel as `<path>#<role>`; the table below is complete.
- A role whose function returns the wrong thing is reported once and stays in the list: its parameters are checked too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from orchestrator.definition.findings import Reporter
from orchestrator.definition.forks import Choose, When
from orchestrator.definition.functions import NONE, Signature, Signatures, choices_of, is_a, item_of, members, show
from orchestrator.definition.layout import Layout, Placed
from orchestrator.definition.loops import ForEach
from orchestrator.definition.steps import Call, Step
from orchestrator.definition.tasks import Task
from orchestrator.definition.waits import Scope, Wait
from orchestrator.definition.words import Compute, Delay, End, Fail, Publish, name_of
from orchestrator.messages import Command, Event, Person, Reply, Role


@dataclass(frozen=True, slots=True)
class Use:
    """One function at one node: what the kernel calls as `<path>#<role>`. `label` is how messages call the place."""

    node: Placed
    role: str
    signature: Signature
    label: str

    @property
    def key(self) -> str:
        """The name of the function in a Program."""
        return f"{self.node.path}#{self.role}"


def functions_of(node: Placed) -> Iterator[tuple[str, Callable[..., Any]]]:
    """(role, function) of everything the author wrote at this node."""
    word = node.word
    if isinstance(word, Step):
        yield "build", word.function
        for undo in word.undos[:1]:
            yield "undo", undo.function
    elif isinstance(word, (Call, Task)):
        yield ("build" if isinstance(word, Call) else "shown"), word.function
    elif isinstance(word, Compute):
        yield "value", word.function
    elif isinstance(word, ForEach):
        yield "items", word.function
    elif isinstance(word, Publish):
        yield "event", word.function
    elif isinstance(word, Choose):
        yield "test", word.function
    elif isinstance(word, When) and not isinstance(word.condition, type):
        yield "test", word.condition
    elif isinstance(word, End) and word.result is not None:
        yield "result", word.result
    elif isinstance(word, Fail) and word.function is not None:
        yield "reason", word.function
    elif isinstance(word, Wait) and word.match is not None:
        yield "match", word.match
    yield from _people(word)
    within = getattr(word, "within", None)
    if isinstance(word, (Call, Task, Wait, Delay, Scope)) and callable(within):
        yield "within", within


def _people(word: object) -> Iterator[tuple[str, Callable[..., Any]]]:
    if isinstance(word, Task):
        if callable(word.to):
            yield "to", word.to
        yield from ((f"exclude{index}", function) for index, function in enumerate(excluding_functions(word)))


def excluding_functions(word: Task[..., Any, Any]) -> tuple[Callable[..., Any], ...]:
    """The functions among `exclude=`, in order; their index is part of their role."""
    return tuple(item for item in word.exclude if not isinstance(item, Task))


def uses_of(layout: Layout, signatures: Signatures, report: Reporter) -> list[Use]:
    """Every function of the saga that can be read, its return type checked."""
    uses = []
    for node in layout.nodes.values():
        for role, function in functions_of(node):
            label = f"undo {name_of(function)}" if role == "undo" else node.label
            signature = signatures.of(function, label)
            if signature is not None:
                use = Use(node, role, signature, label)
                _check_return(use, report)
                uses.append(use)
    return uses


def _check_return(use: Use, report: Reporter) -> None:
    role, hint = use.role.rstrip("0123456789"), use.signature.returns
    if role in ("build", "undo"):
        _check_command(use, report)
    elif role == "test":
        _check_test(use, report)
    elif role in _EXPECTED:
        fits, wanted = _EXPECTED[role]
        if not fits(hint):
            text = f"{use.label}: {use.signature.name} gives {show(hint)}, not {wanted}"
            report("ORC244", use.signature.place, text, do=f"return {wanted}")


def _check_command(use: Use, report: Reporter) -> None:
    hint, name, place = use.signature.returns, use.signature.name, use.signature.place
    word = use.node.word
    if isinstance(word, Call):
        starts = word.child.starts_on
        if hint not in starts:
            text = f"{use.label}: {name} gives {show(hint)}, but {word.child.name} starts on "
            report("ORC242", place, text + " or ".join(map(show, starts)), do=f"build {show(starts[0])}")
    elif not is_a(hint, Command):
        do = "return a Command (its contract names the participant and the reply), or use compute(…)"
        report("ORC241", place, f"{use.label}: {name} builds no command, but {show(hint)}", do=do)
    elif not hint.participant:
        do = f'class {show(hint)}(Command[…], to="…")'
        report("ORC243", place, f"{use.label}: command {show(hint)} names no participant", do=do)


def _check_test(use: Use, report: Reporter) -> None:
    hint, place = use.signature.returns, use.signature.place
    if isinstance(use.node.word, When) and hint is not bool:
        do = "return bool, or use choose(…) for more than two ways"
        report("ORC213", place, f"{use.label}: {use.signature.name} gives {show(hint)}, a condition gives bool", do=do)
    elif choices_of(hint) is None:
        text = f"{use.label}: {use.signature.name} gives {show(hint)}, which has no fixed set of values"
        report("ORC213", place, text, do="return an Enum, a Literal or bool")


def _is_time(hint: Any) -> bool:
    return all(is_a(item, timedelta, datetime) for item in members(hint))


def _is_people(hint: Any) -> bool:
    inner = item_of(hint)
    return all(is_a(item, Role, Person) for item in members(inner if inner is not None else hint))


def _is_persons(hint: Any) -> bool:
    inner = item_of(hint)
    return all(item is NONE or is_a(item, Person) for item in members(inner if inner is not None else hint))


_EXPECTED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "shown": (lambda hint: is_a(hint, BaseModel), "a pydantic model (what the approver sees)"),
    "to": (_is_people, "a Role, a Person, or a list of them"),
    "within": (_is_time, "a timedelta or an aware datetime"),
    "match": (lambda hint: hint is str, "str (build it with Event.key_of(…))"),
    "exclude": (_is_persons, "a Person, a list of Person, or Person | None"),
    "items": (lambda hint: item_of(hint) is not None, "a list of items"),
    "event": (lambda hint: is_a(hint, Event), "an Event"),
    "result": (lambda hint: is_a(hint, Reply), "a Reply"),
    "reason": (lambda hint: hint is str, "str"),
    "value": (lambda hint: hint is not NONE, "a value"),
}
