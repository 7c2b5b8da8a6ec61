"""22x: events that are waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from orchestrator.definition.draft import Draft
from orchestrator.definition.forks import Parallel
from orchestrator.definition.known import lies_inside
from orchestrator.definition.layout import BODY, Placed
from orchestrator.definition.loops import ForEach, Repeat
from orchestrator.definition.place import Place
from orchestrator.definition.tasks import Task
from orchestrator.definition.waits import Scope, Wait
from orchestrator.messages import Event


@dataclass(frozen=True, slots=True)
class Subscription:
    """One node that takes one kind of event: a wait, a scope, or a task that is amended by it."""

    node: Placed
    event: type[Event]
    match: Callable[..., str] | None
    place: Place


def check(draft: Draft) -> None:
    """Codes 221–225."""
    wanted = list(_subscriptions(draft))
    _keys(draft, wanted)
    for one, other in combinations(wanted, 2):
        if one.event is other.event and one.match is other.match:
            _rivals(draft, one, other)
    for found in wanted:
        if isinstance(found.node.word, Wait):
            _in_loops(draft, found, found.node.word)


def _subscriptions(draft: Draft) -> Iterator[Subscription]:
    for node in draft.layout.nodes.values():
        word = node.word
        if isinstance(word, Wait):
            yield Subscription(node, word.event, word.match, word.place)
        elif isinstance(word, Scope):
            for on_event in word.events:
                yield Subscription(node, on_event.event, None, on_event.place)
        elif isinstance(word, Task) and word.amends is not None:
            yield Subscription(node, word.amends, None, word.place)


def _keys(draft: Draft, wanted: list[Subscription]) -> None:
    starts = draft.settings.starts_on
    for start in starts:
        if not start.key_fields:
            do = f"mark the business key of {start.__name__} with Key[…]"
            draft.report("ORC221", draft.settings.place, f"{start.__name__} starts the saga, but has no Key", do=do)
    counts = {len(start.key_fields) for start in starts if start.key_fields}
    if len(counts) > 1:
        text = f"{' and '.join(start.__name__ for start in starts)} have keys of different shape"
        draft.report("ORC225", draft.settings.place, text, do="mark the same business key in each with Key[…]")
    for found in wanted:
        name = found.event.__name__
        if not found.event.key_fields:
            do = f"mark its business key with Key[…]: class {name}(Event): …: Key[str]"
            text = f"{found.node.label} takes {name}, which has no Key"
            draft.report("ORC221", found.place, text, do=do)
        elif found.match is None and len(counts) == 1 and len(found.event.key_fields) not in counts:
            size, own = len(found.event.key_fields), next(iter(counts))
            text = f"{found.node.label}: the key of {name} has {size} fields, that of the saga {own}; they never match"
            do = f"write match= with a function that gives {name}.key_of(…)"
            draft.report("ORC225", found.place, text, do=do)


def _rivals(draft: Draft, one: Subscription, other: Subscription) -> None:
    name = one.event.__name__
    fork = _fork_between(one.node, other.node)
    if fork is not None and not (one.match and _in_for_each(one.node)):
        text = f"two branches of {fork.label} take {name} with the same key"
        do = f"write match= for each, with a function that gives {name}.key_of(…)"
        draft.report("ORC222", other.place, text, made_by=f"{one.node.label} ({one.place})", do=do)
    for outer, inner in ((one, other), (other, one)):
        if isinstance(outer.node.word, Scope) and lies_inside(inner.node, outer.node):
            text = f"{inner.node.label} never gets {name}: {outer.node.label} around it takes it first"
            do = "drop one of them, or write match= for the wait"
            draft.report("ORC222", inner.place, text, made_by=f"{outer.node.label} ({outer.place})", do=do)


def _fork_between(one: Placed, other: Placed) -> Placed | None:
    """The parallel in which both stand on different branches."""
    around = {parent.path: block for parent, block in other.ancestors()}
    for parent, block in one.ancestors():
        if isinstance(parent.word, Parallel) and around.get(parent.path, block) != block:
            return parent
    return None


def _in_for_each(node: Placed) -> bool:
    return any(isinstance(parent.word, ForEach) for parent, _ in node.ancestors())


def _in_loops(draft: Draft, found: Subscription, word: Wait[Any]) -> None:
    name = found.event.__name__
    if word.since is not None and not _asked_before(draft, found.node, word.since.name):
        text = f"{found.node.label}: since={word.since.name}, which is not asked before it"
        draft.report("ORC224", found.place, text, do=f"put {word.since.name} before it, or name another step")
    said = word.early is not None or word.since is not None
    for parent, block in found.node.ancestors():
        if isinstance(parent.word, Repeat) and block == BODY and not said:
            text = f"{found.node.label} stands in {parent.label}: an event of one round could answer another"
            do = "write early=False (only what arrives after the wait opened) or since=step (… after it was asked)"
            draft.report("ORC223", found.place, text, do=do)
            return
        if isinstance(parent.word, ForEach) and word.match is None and (parent.word.at_once > 1 or not said):
            text = f"{found.node.label} stands in {parent.label}: all items wait for {name} with the same key"
            do = f"write match= with a function of the item that gives {name}.key_of(…)"
            draft.report("ORC222", found.place, text, do=do)
            return


def _asked_before(draft: Draft, node: Placed, step: str) -> bool:
    return any(other.name == step and other.order < node.order for other in draft.layout.nodes.values())
