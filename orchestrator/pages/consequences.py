"""What would follow: one outcome of a task tried on the kernel, and told in sentences. Nothing is recorded.

Rules of this file
- Pure. A trial (previews.py) is a turn of the very function that decides votes, so what a page promises before the
  button is what happens after it: the same command with the same data, the same undo plan, the same next person.
- What lies beyond the first reply is read from the definition and said as what comes then, not as done.
- Where a trial is not possible (no installed code, a form that must be filled in) the definition alone speaks, and
  says so: `exact` is False.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.kernel.api import Turn
from orchestrator.kernel.graph import Graph, Node, StepNode, TaskNode, node_path
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.pages.subject import Fact, facts_of, title

AFTERWARDS_MAX = 6
FOR_GOOD = ", which cannot be undone"
REFUSING = ("reject", "deny", "decline", "refuse")


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that happens. kind: asks, undoes, tells, person, waits, state, ends, counts, stuck, turns, child."""

    kind: str
    text: str
    facts: tuple[Fact, ...] = ()
    irrevocable: bool = False


@dataclass(frozen=True, slots=True)
class Consequence:
    """What an outcome leads to. `outcome` "" is nobody deciding in time. `exact`: tried, not only read."""

    outcome: str
    effects: tuple[Effect, ...]
    afterwards: tuple[str, ...] = ()
    exact: bool = True

    @property
    def irrevocable(self) -> bool:
        """Something that cannot be undone is set going at once."""
        return any(effect.irrevocable for effect in self.effects)

    @property
    def turns_back(self) -> bool:
        """The saga turns back."""
        return any(effect.kind == "turns" for effect in self.effects)


def told(outcome: str, turn: Turn, graph: Graph) -> Consequence:
    """A trial that counted, in sentences."""
    effects: list[Effect] = []
    ends: list[str] = []
    for record in turn.records:
        effects.extend(_told(record, graph, turn.state))
        if record.type == "step.requested":
            ends = list(afterwards(graph, node_path(record.activity)))
    if not any(record.type in ("task.decided", "task.expired") for record in turn.records):
        effects.insert(0, _counts(turn))
        ends = []
    return Consequence(outcome, tuple(effects), tuple(ends[:AFTERWARDS_MAX]))


def _counts(turn: Turn) -> Effect:
    voted = next((record for record in turn.records if record.type == "task.voted"), None)
    task = turn.state.activities[voted.activity].task if voted is not None else None
    if voted is None or task is None:
        return Effect("counts", "Nothing happens yet.")
    outcome = voted.data["vote"]["outcome"]
    have = sum(vote["outcome"] == outcome for vote in task.votes)
    left = task.votes_needed - have
    return Effect(
        "counts", f"Your vote is number {have} of {task.votes_needed}. Nothing happens until {left} more agree."
    )


def _told(record: Record, graph: Graph, state: State) -> Iterator[Effect]:
    data, name = record.data, title(record.activity)
    match record.type:
        case "step.requested":
            command = data["command"]
            text = f"{_first(title(command['type']))}: asked of {command['participant']}."
            yield Effect("asks", text, facts_of(command["body"]), irrevocable=bool(data.get("pivot")))
        case "child.requested":
            yield Effect("child", f"Another process begins: {name}.", facts_of(data.get("command", {}).get("body", {})))
        case "task.opened":
            yield Effect("person", f"{_first(name)} is asked of {people_text(data.get('to', ()))}.")
        case "event.awaited":
            yield Effect("waits", f"It waits for {name}.")
        case "event.published":
            event = data.get("event", data)
            yield Effect(
                "tells", f"Others are told: {title(str(event.get('type', name)))}.", facts_of(event.get("body"))
            )
        case "state.entered":
            yield Effect("state", f"Its state becomes {title(str(data.get('state', name)))}.")
        case "compensation.started":
            reason = (data.get("failure") or {}).get("reason", "")
            yield Effect("turns", f"It turns back{f': {reason}' if reason else ''}.")
        case "undo.planned" | "scope.undo_planned":
            yield from _undone(data.get("plan", ()), graph)
        case "saga.completed":
            outcome = data.get("outcome") or "completed"
            yield Effect("ends", f"It ends: {title(str(outcome))}.")
        case "saga.compensated":
            yield Effect("ends", "It ends, undone.")
        case "saga.stuck":
            yield Effect("stuck", "It would get stuck here, and an operator would have to help.")


def _undone(plan: Iterable[str], graph: Graph) -> Iterator[Effect]:
    names = list(plan)
    if not names:
        yield Effect("undoes", "Nothing was done that needs undoing.")
    for name in names:
        node = graph.nodes.get(node_path(name))
        if isinstance(node, StepNode) and node.undo:
            yield Effect("undoes", f"{_first(title(name))} is undone: {title(node.undo)}, by {node.undo_participant}.")
        else:
            yield Effect("undoes", f"{_first(title(name))} is undone.")


def read(outcome: str, graph: Graph, activity: str) -> Consequence:
    """What the definition says follows an outcome ("" for nobody deciding in time), without trying it."""
    node = graph.nodes.get(node_path(activity))
    if not isinstance(node, TaskNode):
        return Consequence(outcome, (), exact=False)
    block = f"on/{outcome}" if outcome else "on_timeout"
    effects: list[Effect] = []
    if block in node.blocks:
        first = node.blocks[block]
    elif outcome and "otherwise" in node.blocks:
        first = node.blocks["otherwise"]
    elif not outcome or outcome in node.rejects:
        return Consequence(outcome, (Effect("turns", "It turns back, and what was done is undone."),), exact=False)
    else:
        first = None
    following = graph.nodes[first] if first else _after(graph, node)
    for number, (step, text) in enumerate(_walk(graph, following)):
        if number == AFTERWARDS_MAX:
            break
        pivot = isinstance(step, StepNode) and step.pivot
        kind = "turns" if step is not None and step.kind == "fail" else "asks"
        effects.append(Effect(kind, f"{_first(text.removesuffix(FOR_GOOD))}.", irrevocable=pivot))
    return Consequence(outcome, tuple(effects), exact=False)


def afterwards(graph: Graph, path: str) -> Iterator[str]:
    """What comes after a node, in words, up to where a person, a condition or the end decides what is next."""
    node = graph.nodes.get(path)
    if node is not None:
        for _, text in _walk(graph, _after(graph, node)):
            yield text


def _walk(graph: Graph, node: Node | None) -> Iterator[tuple[Node | None, str]]:
    while node is not None:
        name = title(node.path)
        match node.kind:
            case "step":
                assert isinstance(node, StepNode)
                yield node, f"{name}, by {node.participant}" + (FOR_GOOD if node.pivot else "")
            case "publish":
                yield node, f"others are told: {title(getattr(node, 'event', name))}"
            case "enter":
                yield node, f"its state becomes {title(getattr(node, 'state', name))}"
            case "task":
                yield node, f"{name} is asked of {people_text(getattr(node, 'to', ()))}"
                return
            case "fail":
                reason = getattr(node, "reason", "")
                yield node, f"it turns back{f': {reason}' if reason else ''}, and what was done is undone"
                return
            case "end":
                yield node, f"it ends: {title(getattr(node, 'outcome', 'completed'))}"
                return
            case "choose" | "parallel" | "for_each" | "repeat":
                yield node, f"what follows depends on {name}" if node.kind == "choose" else f"it goes on with {name}"
                return
            case "wait" | "delay" | "call":
                yield node, f"it waits for {name}"
                return
            case "scope":
                inner = node.blocks.get("body")
                node = graph.nodes[inner] if inner else _after(graph, node)
                continue
        node = _after(graph, node)
    yield None, "it ends: completed"


def _after(graph: Graph, node: Node) -> Node | None:
    """The node that control reaches when this one is over; None at the end of the saga."""
    here: Node | None = node
    while here is not None:
        if here.next is not None:
            return graph.nodes[here.next]
        here = graph.nodes.get(here.parent) if here.parent else None
        if here is not None and here.kind in ("parallel", "for_each", "repeat"):
            return here
    return None


def people_text(to: object) -> str:
    """`manager, Asha`: who is asked, as a definition or a record names them."""
    if isinstance(to, Mapping):
        return "those whom the case names"
    if not isinstance(to, Iterable) or isinstance(to, str):
        return "somebody"
    names = [_one(entry) for entry in to if isinstance(entry, Mapping)]
    return ", ".join(filter(None, names)) or "nobody yet"


def _one(entry: Mapping[str, Any]) -> str:
    if entry.get("role"):
        return f"group {entry['role']}"
    return str(entry.get("person", ""))


def _first(text: str) -> str:
    return text[:1].upper() + text[1:]
