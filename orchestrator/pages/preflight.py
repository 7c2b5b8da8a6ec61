"""What would become of live sagas if they went on by another version: each is walked, and the same, different, or lost.

Rules of this file
- Pure: a state's history and two graphs in, a sentence out. Nothing is moved: a saga keeps its version for life, so
  this says what a change would mean to those that are under way, not that it will.
- **Lost** (needs a mapping): it stands at a node that the other version has not got, or has as another kind of thing.
- **Differs**: something that it has passed or is about is not the same there; the first of these is named, with what
  changed. Nodes that were only joined differently count once the saga has gone past the joint.
- **Same**: all that it has behind it and stands at is the same there; what lies ahead may differ, and is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from orchestrator.definition.draw import difference
from orchestrator.kernel.graph import Graph, Node, node_path
from orchestrator.pages.drawing.history import History
from orchestrator.pages.drawing.standing import ahead

SAME, DIFFERS, LOST = "same", "differs", "lost"
_STANDING = frozenset({"requested", "backoff", "unknown", "open"})


@dataclass(frozen=True, slots=True)
class Walk:
    """One saga. `node`: where it differs or is lost; `is_ahead`: it is the same so far, and something ahead differs."""

    verdict: str
    node: str = ""
    is_ahead: bool = False


@dataclass(frozen=True, slots=True)
class Flight:
    """All of them. `at`: (verdict, node) to how many sagas; `words`: what changed at each node that somebody is at."""

    walked: int
    verdicts: Counter[str]
    at: Counter[tuple[str, str]]
    ahead: int
    words: dict[str, list[str]]

    def sentence(self) -> str:
        """ "312 live: 300 same · 9 differ at step charge · 3 need a mapping at approve"."""
        parts = [f"{self.verdicts[SAME]:,} same"]
        parts += [f"{count:,} differ at {_short(node)}" for (verdict, node), count in self._of(DIFFERS)]
        parts += [f"{count:,} need a mapping at {_short(node)}" for (verdict, node), count in self._of(LOST)]
        return f"{self.walked:,} live: {' · '.join(parts)}"

    def _of(self, verdict: str) -> list[tuple[tuple[str, str], int]]:
        return [one for one in self.at.most_common() if one[0][0] == verdict]


def walk(history: History, before: Graph, after: Graph) -> Walk:
    """One saga, of version `before`, walked through `after`."""
    standing = _standing(history, before)
    for path in sorted(standing):
        if path not in after.nodes or after.nodes[path].kind != before.nodes[path].kind:
            return Walk(LOST, path)
    for path in _behind(history, before):
        old, new = before.nodes[path], after.nodes.get(path)
        here = path in standing
        if new is None or (_bare(old) != _bare(new) if here else old != new):
            return Walk(DIFFERS, path)
    differs = any(path not in after.nodes or before.nodes[path] != after.nodes[path] for path in ahead(before, history))
    joined = any(before.nodes[path] != after.nodes[path] for path in standing)
    return Walk(SAME, "", differs or joined)


def flight(walks: Iterable[Walk], before: Graph, after: Graph) -> Flight:
    """All walks together, with what changed where somebody is."""
    verdicts, at = Counter[str](), Counter[tuple[str, str]]()
    lie_ahead = 0
    for one in walks:
        verdicts[one.verdict] += 1
        lie_ahead += one.is_ahead
        if one.node:
            at[one.verdict, one.node] += 1
    said = difference(before, after)
    words = {
        node: [line for line in said if line.startswith((f"{node}:", f"{node} "))] or ["what comes before or after it"]
        for _, node in at
    }
    return Flight(sum(verdicts.values()), verdicts, at, lie_ahead, words)


def _standing(history: History, graph: Graph) -> set[str]:
    """Nodes that the saga is at: open activities, and what its tokens wait to begin; not the groups around them."""
    state = history.state
    found = {node_path(name) for name, one in state.activities.items() if one.status in _STANDING}
    found |= {node_path(token[1:]) for token in state.tokens if token.startswith("+")}
    found |= {node_path(place[1:]) for place in state.stuck if place[:1] in "+!?"}
    return {path for path in found if path in graph.nodes}


def _behind(history: History, graph: Graph) -> list[str]:
    """Nodes that something was recorded about, in the order in which it was."""
    found: dict[str, None] = {}
    for record in history.records:
        for name in (record.activity, str(record.data.get("takes") or "")[1:]):
            path = node_path(name)
            if path in graph.nodes:
                found[path] = None
    return list(found)


def _bare(node: Node) -> Node:
    """A node without how it is joined to what follows."""
    return replace(node, next=None, blocks={})


def _short(path: str) -> str:
    return path.rpartition("/")[2]
