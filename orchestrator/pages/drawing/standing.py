"""Where a saga stands in its graph: one mark for every node, in words and as a look.

Rules of this file
- A look says what the eye must see (`LOOKS`); the words say it again for those who see no colours or no picture.
- Runs of one node in loops are one mark, with counts; the look is that of the run which needs a person most.
- Ahead is what the flow can still reach from its tokens and open activities. What it cannot reach, and what has not
  begun, was not taken.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass
from datetime import datetime

from orchestrator.definition.draw import describe
from orchestrator.kernel import graph as g
from orchestrator.kernel.graph import node_path
from orchestrator.kernel.state import Activity, State
from orchestrator.pages.drawing.history import History
from orchestrator.pages.drawing.spans import span

# From what needs a person most to what needs nobody.
LOOKS = (
    "stuck", "running", "waiting", "undoing", "refused", "expired", "undone", "done", "next", "maybe", "untaken",
    "plain",
)  # fmt: skip

MAIN_BLOCKS = frozenset({"", "body", "then"})
_STATUS = {
    "requested": ("running", "running"),
    "backoff": ("running", "retrying"),
    "unknown": ("running", "settling"),
    "succeeded": ("done", "done"),
    "refused": ("refused", "refused"),
    "expired": ("expired", "expired"),
    "withdrawn": ("undone", "withdrawn"),
    "left": ("done", "over"),
}
_UNDO = {
    "asked": ("undoing", "undoing"),
    "backoff": ("undoing", "undo retried"),
    "stuck": ("stuck", "undo stuck"),
    "done": ("undone", "undone"),
    "skipped": ("refused", "undo skipped"),
    "by_hand": ("undone", "undone by hand"),
    "taken": ("stuck", "undo being taken over"),
    "handed": ("stuck", "undo in a person's hands"),
}
_GROUPS = frozenset({"scope", "parallel", "for_each", "repeat"})


@dataclass(frozen=True, slots=True)
class Mark:
    """A node as it stands. `words`: its state; `took`: how long, ""; `note`: the rest in one line; `depth`: nesting."""

    path: str
    name: str
    kind: str
    look: str
    words: str
    took: str
    note: str
    pivot: bool
    undo: str
    depth: int
    anchor: str
    runs: int = 0

    @property
    def spoken(self) -> str:
        """Everything in one sentence, for a link's accessible name."""
        parts = [
            self.name, self.kind, self.words, f"took {self.took}" if self.took and self.look == "done" else self.took,
            "point of no return" if self.pivot else "", f"undone by {self.undo}" if self.undo else "",
        ]  # fmt: skip
        return ", ".join(part for part in parts if part)


def marks(graph: g.Graph, history: History | None, now: datetime) -> dict[str, Mark]:
    """A mark for every node, in the order of the flow. `history` None: a definition alone, nothing has happened."""
    runs: dict[str, list[tuple[str, Activity]]] = {}
    for activity, found in history.state.activities.items() if history else ():
        runs.setdefault(node_path(activity), []).append((activity, found))
    reachable = ahead(graph, history) if history else frozenset[str]()
    passed = _passed(graph, history) if history else frozenset[str]()
    made = {}
    for number, (path, node) in enumerate(graph.nodes.items()):
        look, words, took = _stands(node, runs.get(path, []), history, now, passed, reachable)
        made[path] = Mark(
            path=path,
            name=title(node),
            kind=node.kind.replace("_", " "),
            look=look,
            words=words,
            took=took,
            note=describe(node),
            pivot=bool(getattr(node, "pivot", False)),
            undo=getattr(node, "undo", None) or "",
            depth=_depth(graph, node),
            anchor=f"node-{number}",
            runs=len(runs.get(path, [])),
        )
    return made


def title(node: g.Node) -> str:
    """A node's name as a box shows it."""
    if isinstance(node, g.ChooseNode):
        return f"{node.test}?" if not node.present else f"is there {node.test or node.name}?"
    if isinstance(node, g.PublishNode):
        return f"publish {node.event.rpartition('.')[2] or node.event}"
    if isinstance(node, g.WaitNode):
        return f"wait for {node.event.rpartition('.')[2] or node.event}"
    if isinstance(node, g.EnterNode):
        return f"enter {node.state}"
    if isinstance(node, g.EndNode):
        return f"end: {node.outcome}"
    if isinstance(node, g.FailNode):
        return f"fail: {node.reason or node.function or ''}"
    if isinstance(node, g.CallNode):
        return f"{node.name} (saga {node.child})"
    if isinstance(node, g.ParallelNode):
        return "side by side"
    if isinstance(node, g.ForEachNode):
        return f"for each of {node.items}" if node.items else "for each item"
    if isinstance(node, g.RepeatNode):
        return f"repeat, at most {node.at_most}"
    if isinstance(node, g.LeaveNode):
        return "leave the loop"
    if isinstance(node, g.KeepNode):
        return "keep what was done"
    if isinstance(node, g.ScopeNode):
        return f"scope {node.name.removesuffix('.scope')}"
    return node.name


def _depth(graph: g.Graph, node: g.Node) -> int:
    depth = 0
    while node.parent is not None:
        node, depth = graph.nodes[node.parent], depth + 1
    return depth


def _stands(
    node: g.Node,
    runs: list[tuple[str, Activity]],
    history: History | None,
    now: datetime,
    began: Set[str],
    reachable: Set[str],
) -> tuple[str, str, str]:
    """Look, words and length of one node."""
    if history is None:
        return "plain", "", ""
    here = [run_words(activity, found, history) for activity, found in runs]
    here += [
        ("stuck", "stuck")
        for place in history.state.stuck
        if place[0] in "+-" and stuck_at(history.state, place) == node.path
    ]
    if not here:
        if node.path in began:
            turned = isinstance(node, g.FailNode)
            return ("refused", "turned back here", "") if turned else ("done", "passed", "")
        if node.path not in reachable:
            return "untaken", "not taken", ""
        return ("next", "to come", "") if _is_main(node) else ("maybe", "may come", "")
    look = min((look for look, _ in here), key=LOOKS.index)
    if len(here) > 1:
        counted = Counter(words for _, words in here)
        return look, ", ".join(f"{count} {words}" for words, count in counted.items()), ""
    length = history.took(runs[0][1], now) if runs else None
    too_short = length is None or node.kind == "compute"
    return look, here[0][1], "" if too_short or length is None else span(length)


def _passed(graph: g.Graph, history: History) -> Set[str]:
    """Nodes that the flow has come by: also those that leave no record of their own (an end, the leaving of a loop)."""
    silent = set()
    for path in history.over:
        node = graph.nodes.get(path)
        after = follows(graph, node) if node is not None else []
        if after and graph.nodes[after[0]].kind in ("end", "leave", "keep") and not history.began & set(after):
            silent.add(after[0])
    return history.began | silent


def stuck_at(state: State, place: str) -> str:
    """The node at which a place is stuck: that whose function raised, else the one that the place names."""
    function = state.stuck[place].function if place in state.stuck else ""
    return node_path(function.partition("#")[0] or place[1:])


def _is_main(node: g.Node) -> bool:
    """Not behind a fork, a refusal or a time-out."""
    return node.block in MAIN_BLOCKS and "/on_" not in f"/{node.path}" and "/on/" not in f"/{node.path}"


def run_words(activity: str, found: Activity, history: History) -> tuple[str, str]:
    """Look and words of one run."""
    state = history.state
    if any(sign + activity in state.stuck for sign in "!?"):
        return "stuck", "stuck"
    back = undo_words(activity, history)
    if back[0]:
        return back
    if found.gone and found.status == "succeeded":
        return "undone", "taken back"
    if found.status == "open":
        return _open(activity, found, history)
    look, words = _STATUS.get(found.status, ("running", found.status))
    if found.kind == "task" and found.status == "succeeded" and isinstance(found.result, Mapping):
        return look, str((found.result.get("answer") or {}).get("outcome") or "decided")
    if found.status in ("requested", "backoff", "succeeded") and found.attempt > 1:
        words = f"{words}, attempt {found.attempt}"
    if found.kind == "scope" and found.status == "succeeded":
        return "refused", "interrupted"
    return look, words


def undo_words(activity: str, history: History) -> tuple[str, str]:
    """Look and words of an activity's way back; "" where it has not begun."""
    if f"~{activity}" in history.state.stuck:
        return "stuck", "undo stuck"
    return _UNDO.get(history.state.activities[activity].undo_status, ("", ""))


def _open(activity: str, found: Activity, history: History) -> tuple[str, str]:
    if found.kind == "task" and found.task is not None:
        holder = f", with {found.task.claim['by']}" if found.task.claim else ""
        return "waiting", f"waiting, {len(found.task.votes)} of {found.task.votes_needed} votes{holder}"
    if found.kind == "wait":
        return "waiting", "waiting for an event"
    if found.kind == "delay":
        return "waiting", "waiting for its time"
    join = history.state.joins.get(activity)
    if join is not None:
        return "running", f"{join.done} of {join.total} over"
    if found.kind == "repeat":
        return "running", f"round {found.round + 1}"
    return "running", "under way"


def standing_at(found: Mapping[str, Mark]) -> str:
    """The node where the saga stands: what needs a person most, groups last; "" where it stands nowhere."""
    live = [mark for mark in found.values() if mark.look in ("stuck", "running", "waiting", "undoing")]
    live.sort(key=lambda mark: (mark.kind.replace(" ", "_") in _GROUPS, LOOKS.index(mark.look)))
    return live[0].path if live else ""


# --- which ways were gone ---------------------------------------------------------------------------------------------

_NOT_BEGUN = frozenset({"next", "maybe", "untaken"})
_OPEN = frozenset({"running", "waiting", "stuck"})


def ways(graph: g.Graph, found: Mapping[str, Mark]) -> dict[tuple[str, str], str]:
    """For every path below a node (node, block): taken, next (it may still be taken) or untaken.

    `(node, "")` is the way straight on, where the node has no block of its own for it.
    """
    gone: dict[tuple[str, str], str] = {}
    for path, node in graph.nodes.items():
        look = found[path].look
        blocks = {key: first for key, first in node.blocks.items() if key != "body"}
        if "then" not in blocks and node.kind not in ("choose", "parallel", "task"):
            blocks[""] = None
        begun = {key for key, first in blocks.items() if first and found[first].look not in _NOT_BEGUN}
        if not begun and look not in _OPEN | _NOT_BEGUN | {"plain"}:
            begun = {key for key, first in blocks.items() if not first} or set()
        for key in blocks:
            if look == "plain" or key in begun:
                gone[path, key] = "taken"
            else:
                gone[path, key] = "next" if look in _OPEN | {"next", "maybe"} and not begun else "untaken"
        gone.setdefault((path, ""), "taken" if look not in _OPEN | _NOT_BEGUN else "next")
    return gone


# --- what can still come ----------------------------------------------------------------------------------------------


def ahead(graph: g.Graph, history: History) -> frozenset[str]:
    """Paths of nodes that the flow can still reach."""
    state = history.state
    if state.ended:
        return frozenset()
    seen: set[str] = set()
    work = list(_roots(graph, history))
    if state.phase != "on_failed" and state.pivot != "passed" and graph.on_failed:
        work.append(graph.on_failed)
    while work:
        path = work.pop()
        if path not in seen and path in graph.nodes:
            seen.add(path)
            work += [first for first in graph.nodes[path].blocks.values() if first]
            work += follows(graph, graph.nodes[path])
    return frozenset(seen)


def _roots(graph: g.Graph, history: History) -> Iterator[str]:
    """Where the flow goes on from: what its tokens start, and what may follow an open activity."""
    state = history.state
    for token in (*state.tokens, *(scope.then for scope in state.scopes.values() if scope.then)):
        path = node_path(token[1:])
        if path in graph.nodes:
            yield from [path] if token[0] == "+" else follows(graph, graph.nodes[path])
    if state.phase not in ("forward", "on_failed"):
        return
    for activity, found in state.activities.items():
        node = graph.nodes.get(node_path(activity))
        if node is None or found.status not in ("requested", "backoff", "unknown", "open"):
            continue
        for block, first in node.blocks.items():
            if first and not (block == "body" and node.kind == "scope") and node.kind != "parallel":
                yield first
        yield from follows(graph, node)


def follows(graph: g.Graph, node: g.Node) -> list[str]:
    """What comes after a node, however far out that is; its loop's next round too."""
    if node.kind in ("end", "fail"):
        return []
    if isinstance(node, g.LeaveNode):
        loop = graph.nodes.get(node.loop)
        return follows(graph, loop) if loop is not None else []
    found: list[str] = []
    while True:
        if node.next is not None:
            return [*found, node.next]
        if node.parent is None:
            return found
        block = node.block
        node = graph.nodes[node.parent]
        if block in ("", "body") and node.kind in ("repeat", "scope"):
            found += [first for name, first in node.blocks.items() if first and name in ("body", "then", "otherwise")]
