"""What each node gives, and which of it fits a parameter.

Rules of this file
- A result is one bit of a walk's state: number, type, the `Source` by which the kernel finds it, and who made it.
- A type fits itself and its subclasses; plain Python types (int, str, list[…]) fit only themselves.
- A scope with several events gives one result per event, told apart by `Source.type`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_origin

from pydantic import BaseModel

from orchestrator.definition.functions import is_a, item_of
from orchestrator.definition.layout import Layout, Placed
from orchestrator.definition.loops import ForEach
from orchestrator.definition.place import Place
from orchestrator.definition.roles import Use
from orchestrator.definition.steps import Call, Step
from orchestrator.definition.tasks import Task
from orchestrator.definition.waits import Scope, Wait
from orchestrator.definition.words import Compute
from orchestrator.kernel.graph import Source
from orchestrator.messages import Command, Contract, Decision, Done, Event, Reply


@dataclass(frozen=True, eq=False, slots=True)
class Result:
    """One thing that a saga can know. `owner` None: it started the saga. `undoable`: gone once its step is undone."""

    number: int
    type: Any
    source: Source
    owner: Placed | None
    place: Place
    undoable: bool = False

    @property
    def name(self) -> str:
        """Who made it, as the author calls it."""
        if self.owner is None:
            return "the start message"
        return self.owner.name if self.source.origin == "result" else f"an item of {self.owner.label}"

    @property
    def made_by(self) -> str:
        """Who made it, and where."""
        return f"{self.name} ({self.place})"

    @property
    def bit(self) -> int:
        """Its place in the bit set of a state."""
        return 1 << self.number


def results_of(layout: Layout, uses: Sequence[Use], starts: Sequence[type[Contract]], place: Place) -> list[Result]:
    """Every result, the start messages first, then in the order of the flow."""
    returns = {use.key: use.signature.returns for use in uses}
    found: list[Result] = []
    for start in starts:
        wire = start.wire_name
        found.append(Result(len(found), start, Source("start", "", f"start:{wire}", wire), None, place))
    for node in layout.nodes.values():
        for hint, source in _given(node, returns):
            undoable = isinstance(node.word, Call) or (isinstance(node.word, Step) and bool(node.word.undos))
            found.append(Result(len(found), hint, source, node, node.word.place, undoable))
    return found


def _given(node: Placed, returns: dict[str, Any]) -> Iterator[tuple[Any, Source]]:
    word, path = node.word, node.path
    if isinstance(word, (Step, Call)):
        reply = reply_of(returns.get(f"{path}#build"))
        if reply is not None:
            yield reply, Source("result", path, path)
    elif isinstance(word, Task):
        yield Decision[word.answer], Source("result", path, path)  # type: ignore[name-defined]
    elif isinstance(word, Wait):
        yield word.event, Source("result", path, path)
    elif isinstance(word, Scope):
        yield from scope_events(node)
    elif isinstance(word, Compute) and f"{path}#value" in returns:
        yield returns[f"{path}#value"], Source("result", path, path)
    elif isinstance(word, ForEach):
        item = item_of(returns.get(f"{path}#items"))
        if item is not None:
            yield item, Source("item", path, f"item:{path}")


def scope_events(node: Placed) -> Iterator[tuple[type[Event], Source]]:
    """The events that may interrupt a scope, each with its source."""
    word = node.word
    events = word.events if isinstance(word, Scope) else ()
    several = len(events) > 1
    for on_event in events:
        wire = on_event.event.wire_name
        codec = f"{node.path}:{wire}" if several else node.path
        yield on_event.event, Source("result", node.path, codec, wire if several else "")


def reply_of(command: Any) -> type[Reply] | None:
    """The reply to a command; an event that starts a child is answered by Done."""
    if is_a(command, Command):
        reply: type[Reply] = command.reply_type
        return reply
    return Done if is_a(command, Event) else None


def fits(want: Any, have: Any) -> bool:
    """A result of type `have` may fill a parameter of type `want`."""
    if want == have:
        return True
    if not (isinstance(want, type) and isinstance(have, type)) or get_origin(want) is not None:
        return False
    return want is not BaseModel and want.__module__ != "builtins" and not _is_base(want) and issubclass(have, want)


def _is_base(want: type) -> bool:
    """The words of the vocabulary itself (`Event`, `Reply`, …) are too wide to mean anything."""
    return want in (Contract, Event, Command, Reply, Decision)


def named(results: Sequence[Result], name: str) -> list[Result]:
    """The results of the nodes of this name; not start messages, not items."""
    return [
        found
        for found in results
        if found.owner is not None and found.owner.name == name and found.source.origin == "result"
    ]
