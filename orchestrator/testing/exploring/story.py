"""A saga's stream as the checker reads it: facts per activity, and where everything stands in the graph.

Rules of this file
- It shares nothing with `orchestrator.kernel` but the shapes of records and of the graph: what the kernel concludes is
  concluded here once more, from the records and the definition alone.
- `Fact.state`: open (a wait, task, delay, block) | unknown (asked, no outcome) | done | no | expired | withdrawn |
  closing (a scope) | over. `Fact.block`: the block that follows, None where nothing does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, NamedTuple

from orchestrator.kernel.graph import CallNode, Graph, Node, StepNode, node_path
from orchestrator.kernel.inputs import Input
from orchestrator.kernel.records import Record

BODY = ("", "body")
HELD = ("stuck", "taken", "handed")
NONSENSE: dict[str, Any] = {"note": [], "what": [], "nonsense": True}  # fits no contract, no codec, no label


class BrokenInvariantError(AssertionError):
    """An invariant does not hold; the text names it, the saga and the activities."""


def demand(holds: object, text: str) -> None:
    """Raises BrokenInvariantError where it does not hold."""
    if not holds:
        raise BrokenInvariantError(text)


class Place(NamedTuple):
    """What stands around an activity: the owner, its node, the block of it, and the number of the round or item."""

    owner: str
    node: Node
    block: str
    number: int | None


@dataclass(slots=True)
class Fact:
    """What the records say about one activity."""

    kind: str
    opened: int
    opened_at: int
    state: str = "open"
    block: str | None = None
    ended: int = 0
    round: int = 1
    attempt: int = 0
    base: int = 0
    after: str = ""
    under: str = ""  # the key of an earlier round that really did it
    earlier: list[str] = field(default_factory=list)  # keys of earlier rounds that its messages must carry
    kept: bool = False
    reads: bool = False
    fence: str = ""  # "" | asked | waiting | stuck
    fence_attempt: int = 0
    fence_base: int = 0  # its attempts before it was asked anew
    owed: bool = False
    undo: str = ""  # "" | open | stuck | done | skipped | by_hand | taken | handed
    undo_round: int = 1
    undo_no: bool = False  # a definite no in this round: refused, or fenced by a take-over
    undo_attempt: int = 0
    taken: int = 0  # version of the take-over
    due: int = 0
    armed: int = 0
    asked_at: int = 0
    wants: list[dict[str, Any]] = field(default_factory=list)
    count: int = 0  # items of a for_each; rounds begun of a repeat
    mode: str = ""  # of a scope: open | interrupted | failing | undoing
    task: dict[str, Any] = field(default_factory=dict)
    votes: list[dict[str, Any]] = field(default_factory=list)
    void: list[dict[str, Any]] = field(default_factory=list)  # votes of earlier rounds
    level: int = 0
    to: list[dict[str, str]] = field(default_factory=list)  # who is asked now
    claim: str = ""
    delegations: dict[str, dict[str, Any]] = field(default_factory=dict)  # by whom
    steered: list[str] = field(default_factory=list)
    comments: dict[int, tuple[str, str]] = field(default_factory=dict)  # record version -> by, what it says now
    reminders: list[int] = field(default_factory=list)  # to come
    proposal: tuple[str, str, int] | None = None  # who, outcome, version
    early: bool = False  # a child that completed while it was asked to undo itself

    def clone(self) -> Fact:
        """The fact as it is now."""
        copied = Fact(*_ALL_OF_IT(self))
        copied.votes = list(self.votes)
        return copied

    @property
    def unknown(self) -> bool:
        """Asked, and the outcome is not known."""
        return self.state == "unknown"


_ALL_OF_IT = attrgetter(*(found.name for found in fields(Fact)))


@dataclass(slots=True)
class Story:
    """One saga's stream as the checker reads it."""

    saga_id: str
    graph: Graph
    tenant: str = ""
    records: list[Record] = field(default_factory=list)
    facts: dict[str, Fact] = field(default_factory=dict)
    phase: str = "new"
    terminal: str = ""
    completed_once: bool = False
    forward_only: bool = False
    started_at: int = 0
    pivot: str = ""  # "" | open | passed
    pivot_at: str = ""
    pending: bool = False
    plans: dict[str, list[str]] = field(default_factory=dict)  # scope ("": the saga) -> what is left of its plan
    stuck: dict[str, int] = field(default_factory=dict)
    consumed: set[str] = field(default_factory=set)
    expect: str | None = None  # where a failure without a path must go next: a scope, "" for the saga
    expect_of: str = ""
    by_parent: bool = False
    keys: dict[tuple[str, str, int], str] = field(default_factory=dict)
    deadline: int = 0
    more: bool = False  # the last turn stopped at its limit: any input goes on with what was left
    disputed: set[str] = field(default_factory=set)  # settled by people: the participant may know better
    two_people: frozenset[str] = frozenset()  # operators' acts that need two
    proposed: dict[str, tuple[str, str, Any, int, int]] = field(default_factory=dict)  # place -> who, act, value,
    #   record, the stuck record (or take-over) that it is about
    found: set[str] = field(default_factory=set)  # stuck places that are work left by an effect that was found
    _ways: dict[str, list[Place]] = field(default_factory=dict)

    def node(self, activity: str) -> Node:
        """The graph's node of an activity."""
        return self.graph.nodes[node_path(activity)]

    def around(self, activity: str) -> list[Place]:
        """What stands around an activity, innermost first."""
        found = self._ways.get(activity)
        if found is None:
            found = self._ways[activity] = list(self._walk(activity))
        return found

    def _walk(self, activity: str) -> Iterator[Place]:
        node = self.node(activity)
        while node.parent is not None:
            owner = activity[: len(activity) - len(node.path) + len(node.parent)]
            index = None
            if owner.endswith("]"):
                owner, _, number = owner[:-1].rpartition("[")
                index = int(number)
            above = self.graph.nodes[node.parent]
            yield Place(owner, above, node.block, index)
            activity, node = owner, above

    def inside(self, activity: str, scope: str) -> bool:
        """In the body of that scope, not in its handlers. "" is the whole saga."""
        return not scope or any(place.owner == scope and place.block in BODY for place in self.around(activity))

    def within(self, scope: str) -> Iterator[tuple[str, Fact]]:
        """The facts in the body of a scope."""
        return ((key, fact) for key, fact in self.facts.items() if self.inside(key, scope))

    def closing_around(self, activity: str) -> str | None:
        """The innermost closing scope in whose body it lies."""
        for place in self.around(activity):
            fact = self.facts.get(place.owner)
            body = place.node.kind == "scope" and place.block in BODY
            if body and fact is not None and fact.mode not in ("", "open"):
                return place.owner
        return None

    def live(self, activity: str) -> bool:
        """Control may go on here."""
        return self.phase in ("forward", "on_failed") and self.closing_around(activity) is None

    def lasts(self, place: str, *, undone: bool) -> bool:
        """A stuck place that no closing takes away: an effect that was found, a message that was never sent, an undo
        in somebody's hands. A redo of what will be undone anyway is no work."""
        fact = self.facts.get(place[1:])
        if fact is None or place[0] == "~":
            return place == "!" or (fact is not None and fact.undo == "taken")
        will_be_undone = undone and fact.state == "done" and not fact.kept and self.undoable(place[1:])
        return place in self.found and not will_be_undone

    def undoable(self, activity: str) -> bool:
        """The author wrote an undo for it (or it is a child, which has its own)."""
        node = self.node(activity)
        if isinstance(node, CallNode):
            return not node.pivot
        return isinstance(node, StepNode) and node.undo is not None

    def plannable(self, scope: str) -> list[str]:
        """What a plan must hold now: done, undoable, not kept, its way back not begun; last completed first."""
        keys = [
            key
            for key, fact in self.within(scope)
            if fact.state == "done" and fact.undo in ("", "stuck") and not fact.kept and self._has_undo(key, fact)
        ]
        return sorted(keys, key=lambda key: -self.facts[key].ended)

    def _has_undo(self, key: str, fact: Fact) -> bool:
        return fact.kind in ("step", "call") and self.undoable(key)

    def apart(self, one: str, other: str) -> bool:
        """In different branches of one parallel, or different items of one for_each."""
        ways = {place.owner: place for place in self.around(one)}
        for place in self.around(other):
            mine = ways.get(place.owner)
            if mine is not None and (mine.block, mine.number) != (place.block, place.number):
                return place.node.kind in ("parallel", "for_each")
        return False


@dataclass(slots=True)
class Seen:
    """One turn as the checker sees it: what came, when, what was recorded and refused. `version`: of this record."""

    story: Story
    given: Input
    now: int
    records: list[Record]
    refusal: str
    version: int
    index: int = 0

    def fail(self, text: str) -> BrokenInvariantError:
        """The error to raise, with the saga's name."""
        return BrokenInvariantError(f"{self.story.graph.name} {self.story.saga_id[:8]}: {text}")

    def demand(self, holds: object, text: str) -> None:
        """Raises where it does not hold."""
        if not holds:
            raise self.fail(text)
