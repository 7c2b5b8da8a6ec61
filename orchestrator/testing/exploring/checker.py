"""The checker of a simulated world. It shares no code with the kernel beyond the shapes of records, effects and graphs.

Rules of this file
- It believes what the participants' effects say, and holds the streams against them.
- It is called after every turn (`turn`), between sagas (`between`) and at the end (`finish`); a broken invariant raises
  BrokenInvariantError. What it knows of a stream is in `story.py` and `facts.py`; its rules are in the files beside.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.kernel.api import Turn
from orchestrator.kernel.graph import Graph
from orchestrator.kernel.inputs import Answer, Arrived, ChildAnswer, Input, Parent, TaskAct, TimerDue, Vote
from orchestrator.kernel.records import Record
from orchestrator.testing.exploring.answering import check_answers, nothing_dropped
from orchestrator.testing.exploring.deciding import (
    cancel_decided,
    check_people,
    events_taken,
    undo_decided,
)
from orchestrator.testing.exploring.facts_back import learn
from orchestrator.testing.exploring.flowing import check_flow
from orchestrator.testing.exploring.participants import Effect
from orchestrator.testing.exploring.sending import check_messages
from orchestrator.testing.exploring.story import BrokenInvariantError, Fact, Seen, Story, demand
from orchestrator.testing.exploring.tasking import acts_counted, rows_agree, votes_counted
from orchestrator.testing.exploring.turning_back import check_back, goes_on, settled_at_rest

__all__ = ["BrokenInvariantError", "Checker", "Story", "demand"]

AFTER_THE_END = frozenset(
    {"reply.late", "reply.contradicted", "parent.answered", "effect.found", "evidence.checked", "fence.owed"}
)


class Checker:
    """Invariants of single sagas, as they unfold, and between them."""

    def __init__(self, two_people: frozenset[str] = frozenset()) -> None:
        self.stories: dict[str, Story] = {}
        self.two_people = two_people  # operators' acts that need two

    def turn(self, saga_id: str, graph: Graph, given: Input, now: int, turn: Turn) -> None:
        """After one turn: record by record, then the turn as a whole."""
        story = self.stories.get(saga_id)
        if story is None:
            story = self.stories[saga_id] = Story(saga_id, graph, two_people=self.two_people)
        refusal = turn.refusal.code if turn.refusal else ""
        seen = Seen(story, given, now, turn.records, refusal, len(story.records))
        before = _before(story, given)
        phase, pending, no_return = story.phase, story.pending, story.pivot == "passed" or story.forward_only
        for index, record in enumerate(turn.records):
            seen.version, seen.index = seen.version + 1, index
            self._record(seen, record)
        seen.demand(turn.state.version == len(story.records), "versions are not contiguous (V2)")
        seen.demand(story.deadline == turn.state.deadline, f"its deadline is {story.deadline}, and is forgotten (S7)")
        nothing_dropped(seen, before)
        votes_counted(seen, before)
        acts_counted(seen, before)
        rows_agree(seen, turn.effects.tasks_open)
        cancel_decided(seen, phase, pending=pending, no_return=no_return)
        undo_decided(seen, phase, pending=pending, no_return=no_return)
        events_taken(seen, before, phase)
        story.more = turn.effects.resume
        settled_at_rest(seen)
        goes_on(seen)
        check_messages(seen, turn.effects)

    def _record(self, seen: Seen, record: Record) -> None:
        story = seen.story
        if story.terminal and record.type not in AFTER_THE_END:
            again = story.terminal == "completed" and record.type == "compensation.started"
            found = record.data.get("cause") in ("effect_found", "size") or record.data.get("found")
            found = found or (record.type == "operator.retried" and record.data["place"] == "!")
            found = found or record.type == "operator.proposed"  # to record as done what an effect found needs
            again = again and "by_parent" in record.data
            seen.demand(again or found, f"{record.type} {record.activity} after saga.{story.terminal} (V10)")
        check_flow(seen, record)
        check_back(seen, record)
        check_answers(seen, record)
        check_people(seen, record)
        if record.type == "effect.found" and not record.data.get("plans") and "gives" not in record.data:
            later = seen.records[seen.index + 1 :]
            text = f"an effect of {record.activity} was found, and nobody is told (rule 15)"
            seen.demand(any(r.data.get("cause") == "effect_found" for r in later), text)
        learn(seen, record)

    def between(self, saga_id: str, given: Input, parents: dict[str, Parent]) -> None:
        """After a turn: what a parent has recorded about its child is so. `parents`: of children, by their ids."""
        if not isinstance(given, ChildAnswer):
            return
        story = self.stories[saga_id]
        activity = given.activity
        for child_id, parent in parents.items():
            if (parent.saga_id, parent.activity) != (saga_id, activity):
                continue
            child, fact = self.stories.get(child_id), story.facts.get(activity)
            if child is None or fact is None or activity in story.disputed or fact.round != parent.round:
                continue
            never = fact.state == "no" or fact.undo == "done"
            gone = child.phase in ("compensated", "tombstoned")
            demand(not never or gone, f"{activity} is {fact.state}/{fact.undo}, its child is {child.phase} (rule 25)")
            completed = child.phase == "completed" or child.completed_once
            demand(fact.state != "done" or completed, f"{activity} is done, its child is {child.phase} (rule 25)")

    def finish(self, effects: Sequence[Effect], under: dict[tuple[str, str], str]) -> None:
        """At the end: the streams and the participants' history tell the same story."""
        keys = [(e.saga_id, e.key) for e in effects]
        demand(len(keys) == len(set(keys)), "an effect happened twice under one key (V6)")
        takebacks = [(e.saga_id, e.undoes) for e in effects if e.undoes]
        demand(len(takebacks) == len(set(takebacks)), "an effect was undone twice (V9)")
        standing = {(e.saga_id, e.key) for e in effects if not e.undoes} - set(takebacks)
        self._order(effects)
        for saga_id, story in self.stories.items():
            for activity, fact in story.facts.items():
                if fact.kind == "step" and not fact.reads:
                    key = story.keys[("do", activity, fact.round)]
                    self._compare(story, activity, fact, (saga_id, under.get((saga_id, key), key)) in standing)
            self._net(story)

    def _compare(self, story: Story, activity: str, fact: Fact, stands: bool) -> None:
        hands = ("by_hand", "skipped", "handed", "taken")
        gave_back = any(r.type == "operator.gave_back" for r in story.records)
        if fact.undo in hands or activity in story.disputed or gave_back:
            return
        expected = fact.state == "done" and fact.undo != "done"
        effect = "stands" if stands else "does not stand"
        text = f"{story.saga_id} {activity}: recorded {fact.state}/{fact.undo}, but its effect {effect} (V6, V9)"
        demand(stands == expected, text)

    def _net(self, story: Story) -> None:
        """A saga that went back left nothing that it could have taken back (V9)."""
        if story.phase != "compensated":
            return
        rest = [
            key
            for key, fact in story.facts.items()
            if fact.kind in ("step", "call") and fact.state == "done" and story.undoable(key) and not fact.kept
            and fact.undo not in ("done", "by_hand", "skipped") and not self._on_failed(story, key)
        ]  # fmt: skip
        demand(not rest, f"{story.saga_id} compensated, but {rest} were not undone (V9)")

    @staticmethod
    def _on_failed(story: Story, activity: str) -> bool:
        top = story.around(activity)[-1].node.path if story.around(activity) else story.node(activity).path
        path = story.graph.on_failed
        while path:
            if path == top:
                return True
            path = story.graph.nodes[path].next
        return False

    def _order(self, effects: Sequence[Effect]) -> None:
        """No effect of a round after its undo: the undo is the last word (rule 13)."""
        undone: set[tuple[str, str]] = set()
        for effect in effects:
            if effect.undoes:
                undone.add((effect.saga_id, effect.undoes))
            demand((effect.saga_id, effect.key) not in undone, f"{effect.key} took effect after its undo (rule 14)")


def _before(story: Story, given: Input) -> dict[str, Fact]:
    """The facts that the input is about, as they were."""
    if isinstance(given, Arrived):
        return {key: fact.clone() for key, fact in story.facts.items() if fact.wants}
    if isinstance(given, (Answer, TimerDue, Vote, TaskAct)) and given.activity in story.facts:
        return {given.activity: story.facts[given.activity].clone()}
    return {}
