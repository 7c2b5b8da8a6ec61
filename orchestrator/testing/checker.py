"""The checker of a simulated world. It shares no code with the kernel beyond the shapes of records and effects.

Rules of this file
- It believes what the participants' effects say, and holds the stream against them.
- It is called after every turn (`turn`) and at the end (`finish`); a broken invariant raises BrokenInvariantError.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.testing.participants import Effect


class BrokenInvariantError(AssertionError):
    """An invariant does not hold; the text names it, the saga and the activities."""


@dataclass(slots=True)
class Story:
    """One saga's stream as the checker reads it."""

    records: list[Record] = field(default_factory=list)
    order: dict[str, int] = field(default_factory=dict)  # activity -> when it was settled as done
    undo_open: set[str] = field(default_factory=set)
    terminal: str = ""
    planned: list[str] = field(default_factory=list)
    asked_in_plan: list[str] = field(default_factory=list)
    disturbed: bool = False  # an undo was stuck or a person stepped in: the plan's exact order no longer holds


def demand(holds: bool, text: str) -> None:
    """Raises BrokenInvariantError where it does not hold."""
    if not holds:
        raise BrokenInvariantError(text)


class Checker:
    """Invariants of single sagas, as they unfold."""

    def __init__(self) -> None:
        self.stories: dict[str, Story] = {}

    def turn(self, saga_id: str, before: State, after: State, records: Sequence[Record]) -> None:
        """After one turn: record by record."""
        story = self.stories.setdefault(saga_id, Story())
        for record in records:
            story.records.append(record)
            self._record(saga_id, story, record)
        demand(after.version == before.version + len(records), f"{saga_id}: versions are not contiguous (V2)")

    def _record(self, saga_id: str, story: Story, record: Record) -> None:
        kind, activity = record.type, record.activity
        late = kind in ("reply.late", "reply.contradicted", "parent.answered", "effect.found", "evidence.checked")
        if story.terminal and not late:
            again = story.terminal == "saga.completed" and kind == "compensation.started" and "by_parent" in record.data
            demand(again, f"{saga_id}: {kind} after {story.terminal} (V10)")
            story.terminal = ""
        if kind in ("saga.completed", "saga.compensated"):
            demand(not story.undo_open, f"{saga_id}: ended with undos in flight: {story.undo_open}")
            story.terminal = kind
        elif kind in ("step.succeeded", "child.completed"):
            story.order[activity] = len(story.records)
        elif kind == "operator.settled" and record.data["outcome"] == "done":
            story.order[activity] = len(story.records)
        elif kind in ("undo.planned", "scope.undo_planned"):
            self._plan(saga_id, story, record)
        elif kind.startswith("undo.") or kind.startswith("operator."):
            self._undo(saga_id, story, record)
        elif kind == "compensation.started":
            story.planned, story.asked_in_plan = [], []

    def _plan(self, saga_id: str, story: Story, record: Record) -> None:
        plan = record.data["plan"]
        orders = [story.order.get(activity, 0) for activity in plan]
        demand(orders == sorted(orders, reverse=True), f"{saga_id}: plan {plan} is not in reverse order of completion (V9)")
        if record.type == "undo.planned":
            story.planned = list(plan)

    def _undo(self, saga_id: str, story: Story, record: Record) -> None:
        kind, activity = record.type, record.activity
        if kind == "undo.requested":
            others = story.undo_open - {activity}
            demand(not others, f"{saga_id}: undo of {activity} asked while {others} is in flight (rule 18)")
            story.undo_open.add(activity)
            if activity not in story.asked_in_plan and activity in story.planned:
                story.asked_in_plan.append(activity)
                expected = story.planned[: len(story.asked_in_plan)]
                demand(
                    story.disturbed or story.asked_in_plan == expected,
                    f"{saga_id}: undos asked {story.asked_in_plan}, planned {story.planned} (V9)",
                )
        elif kind == "undo.succeeded" or (kind == "undo.failed" and not record.data.get("due")):
            story.undo_open.discard(activity)
            story.disturbed |= kind == "undo.failed"
        elif kind.startswith("operator."):
            story.disturbed = True

    def finish(self, states: dict[str, State], effects: Sequence[Effect]) -> None:
        """At the end: the streams and the participants' history tell the same story."""
        done = {(e.saga_id, e.activity): e for e in effects if not e.undoes}
        undone = {(e.saga_id, e.undoes) for e in effects if e.undoes}
        keys = [(e.saga_id, e.key) for e in effects]
        demand(len(keys) == len(set(keys)), "an effect happened twice under one key (V6)")
        takebacks = [(e.saga_id, e.undoes) for e in effects if e.undoes]
        demand(len(takebacks) == len(set(takebacks)), "an effect was undone twice (V9)")
        for saga_id, state in states.items():
            for activity, found in state.activities.items():
                if found.kind == "step" and not found.reads:
                    self._compare(saga_id, activity, found, done, undone, effects)

    def _compare(self, saga_id: str, activity: str, found: object, done: dict, undone: set, effects: Sequence[Effect]) -> None:  # type: ignore[type-arg]
        status, undo = found.status, found.undo_status  # type: ignore[attr-defined]
        key = found.command["key"]  # type: ignore[attr-defined]
        by_hand = undo in ("by_hand", "skipped", "handed", "taken") or self._by_hand(saga_id, activity)
        if by_hand:
            return
        happened = any(e.saga_id == saga_id and e.key == key for e in effects)
        stands = happened and (saga_id, key) not in undone
        expected = status == "succeeded" and undo != "done"
        demand(
            stands == expected,
            f"{saga_id} {activity}: recorded {status}/{undo or 'standing'}, but the effect "
            f"{'stands' if stands else 'was undone' if happened else 'never happened'} (V6, V9)",
        )

    def _by_hand(self, saga_id: str, activity: str) -> bool:
        hands = ("operator.completed_by_hand", "operator.settled", "operator.skipped")
        return any(r.activity == activity and r.type in hands for r in self.stories[saga_id].records)
