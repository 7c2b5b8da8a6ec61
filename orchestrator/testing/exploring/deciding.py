"""Checks of people and events: decisions, operators' acts, evidence, cancels, subscriptions."""

from __future__ import annotations

from typing import Any

from orchestrator.kernel.graph import ScopeNode, WaitNode, node_path
from orchestrator.kernel.inputs import Arrived, Cancel, Operate, UndoAsked, Vote
from orchestrator.kernel.records import Record
from orchestrator.testing.exploring import tasking
from orchestrator.testing.exploring.story import NONSENSE, Fact, Seen

MS = 1000
ACTS = {
    "operator.retried", "operator.completed_by_hand", "operator.skipped", "operator.gave_back", "operator.settled",
    "evidence.proposed", "operator.proposed",
}  # fmt: skip


def check_people(seen: Seen, record: Record) -> None:
    """Before the record is learned."""
    if record.type in ACTS or (record.type == "undo.taken_over" and "again" not in record.data):
        _act(seen, record)
    if check := CHECKS.get(record.type):
        check(seen, record)


def _decided(seen: Seen, record: Record) -> None:
    """The decision names who decided and every vote that it rests on."""
    vote, fact = seen.given, seen.story.facts[record.activity]
    decision = record.data["decision"]
    seen.demand(isinstance(vote, Vote) and decision["by"]["id"] == vote.by, f"{record.activity} is decided by another")
    voters = [cast["by"]["id"] for cast in decision["votes"]]
    seen.demand(
        voters == [cast["by"] for cast in fact.votes],
        f"{record.activity}: decided by the votes of {voters}, cast were {[cast['by'] for cast in fact.votes]}",
    )


def _act(seen: Seen, record: Record) -> None:
    """An operator's act: on the stuck record (or take-over, or proposal) of the version that it names (rule 27)."""
    act, story = seen.given, seen.story
    seen.demand(isinstance(act, Operate), f"{record.type} without an operator")
    assert isinstance(act, Operate)
    seen.demand(act.reason and record.data.get("by") == act.by, f"{record.type}: person or reason is missing")
    typed = (record.data.get("result"), record.data.get("value"))
    seen.demand(NONSENSE not in typed, f"{record.type} {act.place}: what was typed fits nothing (rule 27)")
    fact = story.facts.get(act.place[1:])
    if act.place[0] == "~" and act.act in ("skip", "done", "give_back"):
        what = f"{act.act} {act.place}"
        seen.demand(fact is not None and fact.undo == "handed", f"{what}: it was not handed over (rule 19)")
        assert fact is not None
        first = _by_two(seen, record, act, fact.taken)
        seen.demand(act.version in (fact.taken, first), f"{what}: names {act.version}, taken over at {fact.taken}")
        return
    if act.place[0] == "~" and fact is not None:
        mine = {"operator.retried": ("taken", "handed"), "evidence.proposed": ("", "open", "stuck")}.get(
            record.type, ()
        )
        seen.demand(fact.undo not in mine, f"{record.type} {act.place}, whose undo is {fact.undo} (rules 15, 19)")
    stuck = story.stuck.get(act.place)
    proposal = fact.proposal[2] if fact is not None and fact.proposal else -1
    seen.demand(stuck is not None, f"{act.act} on {act.place}, which is not stuck")
    first = _by_two(seen, record, act, stuck or 0)
    known = (stuck, proposal, first)
    seen.demand(act.version in known, f"{act.act} {act.place} answers {act.version}, stuck at {stuck}")


def _by_two(seen: Seen, record: Record, act: Operate, about: int) -> int:
    """The record that proposed something for this place as it is now, else -1. Four eyes where they must be."""
    first = seen.story.proposed.get(act.place)
    first = first if first is not None and first[4] == about else None
    if record.type in ("operator.completed_by_hand", "operator.skipped") and act.act in seen.story.two_people:
        what = f"{act.act} on {act.place}"
        seen.demand(first is not None, f"{what} is one person's alone")
        assert first is not None
        by, kind, value, version, _ = first
        seen.demand(by != act.by, f"{what}: {by} confirms what they proposed themselves")
        typed = record.data.get("value", record.data.get("result"))
        seen.demand((kind, value) == (act.act, typed), f"{what}: {kind} of {value} was proposed, {typed} is done")
        seen.demand(version == act.version, f"{what}: the second person names {act.version}, not {version}")
        seen.demand(record.data.get("people") == [by, act.by], f"{what}: the record does not name both")
    elif record.type == "operator.proposed":
        seen.demand(act.act in seen.story.two_people, f"{act.act} on {act.place} is proposed, and needs nobody else")
    return first[3] if first is not None else -1


def _settled(seen: Seen, record: Record) -> None:
    """Evidence needs two people who say the same (rule 15)."""
    fact, act = seen.story.facts[record.activity], seen.given
    assert isinstance(act, Operate)
    seen.demand(fact.unknown, f"{record.activity} is settled by evidence, but it is {fact.state}")
    proposal = fact.proposal
    seen.demand(proposal is not None, f"{record.activity} is settled by one person's word (rule 15)")
    assert proposal is not None
    by, outcome, version = proposal
    seen.demand(by != act.by, f"{record.activity}: {by} confirms their own evidence")
    seen.demand(outcome == record.data["outcome"], f"{record.activity}: proposed {outcome}, settled otherwise")
    seen.demand(act.version == version, f"{record.activity}: the second person names {act.version}, not {version}")
    never = _never(seen, record.activity)
    owed = bool(record.data.get("owed"))
    seen.demand(owed != never, f"{record.activity}: its fence is owed: {owed}, never: {never} (rule 15)")
    if owed and fact.kind == "step":
        following = [r.type for r in seen.records[seen.index :]]
        seen.demand("fence.owed" in following, f"{record.activity}: the fence is owed, and not asked (rule 15)")


def _never(seen: Seen, activity: str) -> bool:
    stuck = [r for r in seen.story.records if r.type == "saga.stuck" and r.data["place"] == f"?{activity}"]
    return bool(stuck) and stuck[-1].data["cause"] == "never"


def undo_decided(seen: Seen, phase: str, *, pending: bool, no_return: bool) -> None:
    """After a turn: a parent that asks for the undo is told at once what is known for ever (rules 16a, 25)."""
    if not isinstance(seen.given, UndoAsked) or phase == "new":
        return
    answers = [r.data["outcome"] for r in seen.records if r.type == "parent.answered"]
    if phase in ("compensated", "tombstoned"):
        seen.demand(answers == ["undone"], f"the parent asks for the undo of a saga that is {phase}, told {answers}")
    elif no_return and phase in ("forward", "completed") and not pending:
        seen.demand(answers == ["pivot_passed"], f"the parent asks for the undo past the pivot, told {answers}")


def _pivot_told(seen: Seen, record: Record) -> None:
    """The pivot is passed after all: a parent that waits for the undo hears it (rule 16b)."""
    failure = record.data.get("failure")
    if not record.activity and failure and failure["kind"] == "parent":
        following = [r.type for r in seen.records[seen.index + 1 :]]
        seen.demand("parent.answered" in following, f"the pivot is passed, and the parent is not told: {following}")


def cancel_decided(seen: Seen, phase: str, *, pending: bool, no_return: bool) -> None:
    """After a turn: a cancel turns the saga back, or is refused for a reason (rule 20)."""
    if not isinstance(seen.given, Cancel):
        return
    types = [r.type for r in seen.records]
    turned = "compensation.started" in types or "saga.failing" in types
    may = phase == "forward" and not pending and not no_return
    going_on = seen.story.more and turned  # the last turn was cut short: what was left moves now
    seen.demand(
        turned == may or going_on, f"a cancel in phase {phase}, pending {pending}, past the pivot {no_return}: {types}"
    )


def events_taken(seen: Seen, before: dict[str, Fact], phase: str) -> None:
    """After a turn: an event goes to the oldest open subscription that accepts it, and to exactly one (S9)."""
    event, story = seen.given, seen.story
    if not isinstance(event, Arrived):
        return
    wanting = [
        (fact.opened, key)
        for key, fact in before.items()
        for want in fact.wants
        if (want["type"], want["key"]) == (event.type, event.key)
        and event.arrived_at >= _since(seen, key, fact, event.type)
    ]
    takers = [r.activity for r in seen.records if r.data.get("event_id") == event.event_id]
    seen.demand(len(takers) <= 1, f"event {event.event_id} is taken by {takers} (S9)")
    if phase not in ("forward", "on_failed") or not wanting:
        seen.demand(not takers, f"{takers} takes {event.type}, which nothing wants")
        return
    oldest = before[min(wanting)[1]]
    limit = oldest.task["expires"] if oldest.kind == "task" else oldest.due
    overdue = limit and event.arrived_at >= limit
    stuck = any(r.type == "saga.stuck" for r in seen.records)
    seen.demand(not overdue or seen.records, f"{event.type} came after the time of {min(wanting)[1]}, which goes on")
    if not overdue and not stuck and f"!{min(wanting)[1]}" not in story.stuck:
        seen.demand(takers == [min(wanting)[1]], f"{event.type} must go to {min(wanting)[1]}, went to {takers} (S9)")


def _since(seen: Seen, key: str, fact: Fact, type_: str) -> int:
    """The earliest arrival of an event that a subscription takes (rule 23)."""
    node, story = seen.story.node(key), seen.story
    early = story.started_at - story.graph.early_age_ms * MS
    if isinstance(node, WaitNode):
        if node.since:
            steps = [other for name, other in story.facts.items() if node_path(name) == node.since]
            asked = [step.asked_at for step in steps if step.opened < fact.opened]
            return max(asked, default=fact.opened_at)
        return early if node.early else fact.opened_at
    return early if isinstance(node, ScopeNode) and type_ not in node.fresh else fact.opened_at


def _consumes(seen: Seen, record: Record) -> None:
    event = record.data.get("event_id")
    if event:
        seen.demand(event not in seen.story.consumed, f"{record.activity} takes event {event} a second time (rule 23)")
        fact = seen.story.facts[record.activity]
        limit = fact.task["expires"] if fact.kind == "task" else fact.due
        in_time = not limit or record.data["arrived_at"] < limit
        seen.demand(in_time, f"{record.activity} takes event {event}, which came after its limit (rule 31)")


def _limits(seen: Seen, record: Record) -> None:
    """A limit of the definition is the record's, and a subscription takes what it may."""
    node: Any = seen.story.node(record.activity)
    within = node.within
    if within is not None and within.ms is not None and not within.calendar:
        due = seen.now + within.ms * MS
        seen.demand(record.data.get("due") == due, f"{record.activity}: due {record.data.get('due')}, must be {due}")
    if getattr(node, "since", None) and "[" in record.activity:
        return
    fact = Fact(node.kind, seen.version, seen.now)
    for want in record.data.get("wants", ()):
        since = _since(seen, record.activity, fact, want["type"])
        seen.demand(want["from"] == since, f"{record.activity} takes events from {want['from']}, must from {since}")


CHECKS = {
    **tasking.CHECKS,
    "event.awaited": _limits,
    "scope.entered": _limits,
    "timer.set": _limits,
    "task.decided": _decided,
    "cancel.refused": _pivot_told,
    "operator.settled": _settled,
    "event.received": _consumes,
    "scope.interrupted": _consumes,
    "scope.failing": _consumes,
    "task.amended": _consumes,
}
