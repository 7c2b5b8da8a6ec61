"""The kernel's door, for the runtime and for tests: `advance` (decide + effects) and `fold` (state from a stream)."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.kernel.decide import Decided, decide, tombstone
from orchestrator.kernel.effects import Effects, effects
from orchestrator.kernel.folding import evolve
from orchestrator.kernel.graph import Program
from orchestrator.kernel.inputs import Input, Refusal, UndoAsked
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.kernel.turn import Limits
from orchestrator.kernel.turning import plan_of
from orchestrator.messages.value import value

__all__ = ["Limits", "Turn", "advance", "fold", "undo_plan"]


@value
class Turn:
    """What one input led to: records (perhaps none), the state after them (the one before is untouched), effects.

    `refusal`: the input asked for something that may not be; nothing was recorded for it, or only what had come due.
    """

    records: list[Record]
    state: State
    effects: Effects
    refusal: Refusal | None = None


def fold(records: Iterable[Record]) -> State:
    """The state of a stream, from its records alone: no graph, no saga code. Raises FoldError for a broken stream."""
    state = State()
    for record in records:
        evolve(state, record)
    state.owned = set()
    return state


def advance(
    program: Program,
    state: State | None,
    given: Input,
    now: int,
    limits: Limits | None = None,
    *,
    child: tuple[str, str, str] | None = None,
) -> Turn:
    """One turn. `state` None: nothing written yet (only Start or UndoAsked make sense then).

    `now`: microseconds UTC, not before the stream's last record. `child`: (saga id, tenant, business key) of the saga
    that an UndoAsked addresses, for the tombstone of a child that does not exist yet. Never raises for what a user
    function does; raises FoldError only for a bug of the kernel or a broken stream.
    """
    before = state or State()
    if isinstance(given, UndoAsked) and before.phase == "new":
        if child is None:
            raise ValueError("an UndoAsked for a saga that does not exist needs `child`")
        decided: Decided = tombstone(program, child[0], child[1], child[2], given, now)
    else:
        decided = decide(program, before, given, now, limits)
    made = effects(before, decided.state, decided.records, more=decided.more)
    return Turn(decided.records, decided.state, made, decided.refusal)


def undo_plan(state: State) -> list[str]:
    """What would be undone if the saga turned back now, first to last; readable at any moment. Empty past the pivot."""
    if state.plan is not None:
        return list(state.plan)
    if state.pivot == "passed" or state.forward_only:
        return []
    return plan_of(state)
