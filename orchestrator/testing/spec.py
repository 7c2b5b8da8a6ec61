"""`given(…).when(…).then(…)`: a saga specified by what goes in and what comes out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from difflib import SequenceMatcher
from typing import Any

from orchestrator.kernel.api import Limits, undo_plan
from orchestrator.kernel.effects import Outgoing
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.messages import Command, Event
from orchestrator.testing.answers import Given
from orchestrator.testing.known import Definition, SpecificationError, title
from orchestrator.testing.outputs import Output, denial
from orchestrator.testing.world import Actor, World

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)  # a Monday


class Spec:
    """One saga under specification. Every `when` goes on from where the last one stopped."""

    def __init__(self, world: World, definition: Definition) -> None:
        self.world = world
        self._definition = definition
        self._new = list(world.outputs)  # `then` right after `given` looks at everything so far

    def when(self, *inputs: Given) -> Spec:
        """Lets these inputs happen, in order. `then` looks at what came of them."""
        self._new = []
        for given_ in inputs:
            self._new += self._happen(given_)
        return self

    def _happen(self, given_: Given) -> list[Output]:
        first = len(self.world.outputs)
        refusal = given_.give(self.world)
        seen = self.world.outputs[first:]
        return [*seen, denial(refusal)] if refusal is not None else seen

    def then(self, *expected: Output) -> Spec:
        """Exactly these outputs came of the last `when` (or of `given`), in this order. Raises AssertionError."""
        if len(expected) != len(self._new) or not all(map(Output.fits, expected, self._new)):
            raise AssertionError(_difference(title(self._definition), expected, self._new))
        return self

    def then_nothing(self) -> Spec:
        """Nobody outside sees anything of it."""
        return self.then()

    @property
    def outputs(self) -> list[Output]:
        """What came of the last `when`."""
        return list(self._new)

    @property
    def records(self) -> list[Record]:
        """The stream of the saga so far; a record's version is its place, from 1."""
        return list(self.world.main.records)

    @property
    def state(self) -> State:
        """What the records add up to."""
        return self.world.main.now_state

    @property
    def sent(self) -> list[Outgoing]:
        """Every message that the saga has put into its outbox."""
        return list(self.world.main.sent)

    def undo_plan(self) -> list[str]:
        """What would be undone if the saga turned back now, first to last (activity ids). Empty past the pivot."""
        return undo_plan(self.state)

    def child(self, definition: Definition) -> Actor:
        """The (last) child saga of this definition: its records, state and messages. Raises SpecificationError."""
        found = [a for a in self.world.actors.values() if a.definition is definition and a.parent is not None]
        if not found:
            raise SpecificationError(f"no {title(definition)} was called")
        return found[-1]


def given(
    saga: Definition,
    start: Event | Command[Any],
    *inputs: Given,
    answer_undos: bool = True,
    run_children: bool = True,
    forward_only: bool = False,
    now: datetime = START,
    limits: Limits | None = None,
) -> Spec:
    """A saga that has started and to which these inputs have happened; none of them may be refused.

    answer_undos: participants answer every undo with ok by themselves. run_children: child sagas really run; otherwise
    the specification answers for them. forward_only: as if the pivot had been passed at the start. now: the instant of
    the start. limits: of one turn.
    """
    microseconds = int(now.timestamp() * 1_000_000)
    world = World(saga, microseconds, answer_undos, run_children, forward_only, limits)
    world.start_main(start)
    for given_ in inputs:
        refusal = given_.give(world)
        if refusal is not None:
            raise SpecificationError(f"given: {given_} was refused: {refusal.code}, {refusal.text}")
    return Spec(world, saga)


def _difference(name: str, expected: Sequence[Output], got: Sequence[Output]) -> str:
    """Expected and got, one output per line; what differs is marked."""
    matched_expected, matched_got = _matches(expected, got)
    lines = [f"saga {name} did something else", "expected"]
    lines += _marked("-", expected, matched_expected)
    lines += ["got"]
    lines += _marked("+", got, matched_got)
    return "\n".join(lines)


def _marked(sign: str, outputs: Sequence[Output], matched: set[int]) -> list[str]:
    return [f"  {' ' if i in matched else sign} {output.text}" for i, output in enumerate(outputs)] or ["    nothing"]


def _matches(expected: Sequence[Output], got: Sequence[Output]) -> tuple[set[int], set[int]]:
    """The longest common order of both: every expected output is numbered by the first got one that it fits."""
    numbers = [next((i for i, other in enumerate(got) if out.fits(other)), -1 - n) for n, out in enumerate(expected)]
    theirs = [next((i for i, other in enumerate(got) if other == out), 0) for out in got]
    blocks = SequenceMatcher(None, numbers, theirs, autojunk=False).get_matching_blocks()
    return (
        {block.a + i for block in blocks for i in range(block.size)},
        {block.b + i for block in blocks for i in range(block.size)},
    )
