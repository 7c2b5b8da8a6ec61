"""The question "which of these results are there?", as bit sets.

Rules of this file
- Low bits are results that are there; the same bits shifted by the number of results are those that `keep()` keeps.
- As one value: results of earlier rounds and of items are hidden; after a loop the last round's is there.
- As a list (`many`): everything that may be there is gathered, out of loops too; items are not. So one state is enough.
- What is undone is gone. After a scope failed, only computed and kept values of its inside are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_

from orchestrator.definition.forks import When
from orchestrator.definition.functions import normal
from orchestrator.definition.layout import BODY, Placed
from orchestrator.definition.loops import ForEach
from orchestrator.definition.results import Result, fits
from orchestrator.definition.waits import Scope
from orchestrator.definition.walk import Question, States, Trail
from orchestrator.definition.words import Compute

AMBIGUOUS = 2


class Known(Question[int]):
    """Follows the given results through a walk."""

    def __init__(self, tracked: Sequence[Result], everything: Sequence[Result], many: bool) -> None:
        self.tracked = tracked
        self._everything = everything
        self._many = many
        self._shift = len(everything)
        self.mask = bits(tracked)

    def start(self, result: Result) -> int:
        """The state in which this start message begins."""
        return result.bit & self.mask

    def there(self, state: int) -> int:
        """The results that are there, kept or not."""
        return (state | state >> self._shift) & self.mask

    def done(self, node: Placed, state: int) -> int:
        given = bits(found for found in self.tracked if found.owner is node and found.source.origin == "result")
        return self._few(state | given)

    def interrupted(self, node: Placed, event: str, state: int) -> int:
        own = [found for found in self.tracked if found.owner is node]
        return self._few(state | bits(found for found in own if found.type.wire_name == event))

    def holds(self, node: Placed, state: int) -> bool | None:
        condition = node.word.condition if isinstance(node.word, When) else None
        if self._many or not isinstance(condition, type):
            return None
        asked = bits(found for found in self._everything if fits(normal(condition), found.type))
        return bool(self.there(state) & asked) if asked & self.mask == asked else None

    def enter_loop(self, node: Placed, state: int) -> int:
        if not self._many or isinstance(node.word, ForEach):
            state = self._without(state, bits(found for found in self.tracked if lies_inside(found.owner, node)))
        return state | bits(found for found in self.tracked if found.owner is node and found.source.origin == "item")

    def after_items(self, node: Placed, before: int, outs: Sequence[int]) -> Iterable[int]:
        if not self._many:
            return (before,)
        items = bits(found for found in self.tracked if found.owner is node)
        return (before, self._without(reduce(or_, outs, before), items))

    def join(self, one: int, other: int) -> Iterable[int]:
        return (self._few(one | other),)

    def merged(self, states: States[int]) -> States[int]:
        if not self._many:
            return states
        whole: dict[bool, tuple[int, Trail]] = {}
        for (state, passed), trail in states.items():
            before, first = whole.get(passed, (0, trail))
            whole[passed] = (before | state, first)
        return {(state, passed): trail for passed, (state, trail) in whole.items()}

    def _few(self, state: int) -> int:
        """Asked for one value, two that are there are as ambiguous as twenty: the earliest two are kept, so that a
        flow with many results of one type has few states."""
        there = self.there(state)
        if self._many or there.bit_count() <= AMBIGUOUS:
            return state
        kept = there & -there
        kept |= (there ^ kept) & -(there ^ kept)
        return state & (kept | kept << self._shift)

    def undone(self, node: Placed | None, state: int) -> int:
        if node is None:
            return state & ~bits(found for found in self.tracked if found.undoable)
        inside = (found for found in self.tracked if lies_inside(found.owner, node))
        return state & ~bits(found for found in inside if not _is_computed(found))

    def kept(self, node: Placed, state: int) -> int:
        around = innermost_keeper(node)
        inside = bits(found for found in self.tracked if around is not None and lies_inside(found.owner, around))
        return state | (state & inside) << self._shift

    def _without(self, state: int, gone: int) -> int:
        return state & ~gone & ~(gone << self._shift)


def bits(results: Iterable[Result]) -> int:
    """The bit set of these results."""
    return reduce(or_, (found.bit for found in results), 0)


def lies_inside(node: Placed | None, around: Placed) -> bool:
    """The node lies in the body of that node, at any depth."""
    return node is not None and any(parent is around and block == BODY for parent, block in node.ancestors())


def innermost_keeper(node: Placed) -> Placed | None:
    """The scope or item that a `keep()` is about: the innermost that the author wrote around it."""
    for parent, block in node.ancestors():
        word = parent.word
        if block == BODY and (isinstance(word, ForEach) or (isinstance(word, Scope) and not word.lowered)):
            return parent
    return None


def _is_computed(found: Result) -> bool:
    return found.owner is not None and isinstance(found.owner.word, Compute)
