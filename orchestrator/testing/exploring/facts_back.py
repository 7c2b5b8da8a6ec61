"""The checker's own fold, continued: closings, the way back, and what operators do."""

from __future__ import annotations

from typing import Any

from orchestrator.kernel.graph import CallNode
from orchestrator.kernel.records import Record
from orchestrator.testing.exploring.facts import consume, end, learn, learns, pass_pivot
from orchestrator.testing.exploring.story import Seen, Story

__all__ = ["learn"]

Data = dict[str, Any]


@learns("scope.interrupted", "scope.failing")
def _closing(seen: Seen, record: Record, data: Data) -> None:
    story = seen.story
    interrupted = record.type == "scope.interrupted"
    _close(seen, record.activity, data["withdrawn"], keep_inner=interrupted)
    fact = end(seen, record.activity, "closing")
    by_event = f"on/{data['type']}" if "event" in data else "on_timeout"
    fact.block = by_event if interrupted else "on_failed"
    fact.mode = "interrupted" if interrupted else "failing"
    story.facts[record.activity] = fact
    consume(seen, data)


def _close(seen: Seen, scope: str, withdrawn: list[str], *, keep_inner: bool, undone: bool = True) -> None:
    story = seen.story
    for key, fact in list(story.within(scope)):
        if key == scope:
            continue
        if fact.mode not in ("", "open") and not keep_inner:
            fact.mode, fact.state = "", "withdrawn"
            story.plans.pop(key, None)
        if keep_inner and story.closing_around(key) is not None:
            continue
        if fact.undo == "stuck":
            fact.undo = ""
        if not (fact.undo in ("open", "taken") or fact.owed):
            fact.due = fact.armed = 0
        fact.fence, fact.after = "", ""
        for place in [sign + key for sign in "+-!?~" if not story.lasts(sign + key, undone=undone and not keep_inner)]:
            story.stuck.pop(place, None)
    for place in [p for p in story.stuck if p[1:] and story.inside(p[1:], scope) and p[0] in "+-"]:
        if not keep_inner or story.closing_around(place[1:]) is None:
            del story.stuck[place]
    for key in withdrawn:
        end(seen, key, "withdrawn").mode = ""


@learns("scope.undo_planned", "undo.planned")
def _planned(seen: Seen, record: Record, data: Data) -> None:
    seen.story.plans[record.activity] = list(data["plan"])
    if record.activity:
        seen.story.facts[record.activity].mode = "undoing"


@learns("scope.closed", "scope.undone")
def _scope_over(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    fact.state, fact.mode, fact.ended = "over", "", seen.version
    seen.story.plans.pop(record.activity, None)


@learns("saga.failing")
def _failing(seen: Seen, record: Record, data: Data) -> None:
    seen.story.pending = True
    if data["failure"]["kind"] == "deadline":
        seen.story.deadline = 0
    seen.story.by_parent |= "by_parent" in data


@learns("cancel.refused")
def _cancel_refused(seen: Seen, record: Record, data: Data) -> None:
    seen.story.pending = False
    if record.activity and (fact := seen.story.facts.get(record.activity)):
        fact.fence, fact.after, fact.due, fact.armed = "", "", 0, 0
        pass_pivot(seen.story, record.activity, done=True)


@learns("compensation.started")
def _turned(seen: Seen, record: Record, data: Data) -> None:
    story = seen.story
    _close(seen, "", data["withdrawn"], keep_inner=False)
    story.phase, story.pending, story.terminal = "compensating", False, ""
    story.plans, story.deadline = {}, 0
    story.by_parent |= "by_parent" in data


@learns("compensation.finished")
def _finished(seen: Seen, record: Record, data: Data) -> None:
    seen.story.phase = "on_failed"


@learns("saga.completed", "saga.compensated", "saga.tombstoned")
def _terminal(seen: Seen, record: Record, data: Data) -> None:
    story = seen.story
    if record.type == "saga.completed":
        _close(seen, "", data.get("withdrawn", []), keep_inner=False, undone=False)
        story.completed_once = True
    story.phase = story.terminal = record.type.partition(".")[2]
    story.deadline = 0


@learns("saga.deadline_missed")
def _missed(seen: Seen, record: Record, data: Data) -> None:
    seen.story.deadline = 0


@learns("saga.stuck")
def _stuck(seen: Seen, record: Record, data: Data) -> None:
    place = data["place"]
    seen.story.stuck[place] = seen.version
    (seen.story.found.add if data["cause"] == "effect_found" else seen.story.found.discard)(place)


@learns("undo.requested")
def _undo(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    fact.undo, fact.undo_round, fact.undo_attempt = "open", data["round"], data["attempt"]
    fact.undo_no = False
    _unplan(seen, record.activity)


def _unplan(seen: Seen, activity: str) -> None:
    for plan in seen.story.plans.values():
        if activity in plan:
            plan.remove(activity)


@learns("undo.succeeded")
def _undone(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    fact.undo, fact.due, fact.armed = "done", 0, 0
    _unplan(seen, record.activity)
    seen.story.stuck.pop(f"~{record.activity}", None)


@learns("undo.failed")
def _undo_failed(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    fact.undo = "open" if data.get("due") else "stuck"
    fact.undo_no |= bool(data.get("refused"))
    if not data.get("due"):
        fact.due = fact.armed = 0
    _unplan(seen, record.activity)


@learns("undo.taken_over")
def _taken(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    fact.undo = "taken"
    _unplan(seen, record.activity)
    fact.taken = data.get("again", seen.version)


@learns("undo.handed")
def _handed(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    fact.undo, fact.due, fact.armed, fact.undo_no = "handed", 0, 0, True
    seen.story.stuck.pop(f"~{record.activity}", None)


@learns("operator.skipped", "operator.gave_back", "operator.retried", "operator.completed_by_hand")
def _operated(seen: Seen, record: Record, data: Data) -> None:
    story, place = seen.story, data["place"]
    story.stuck.pop(place, None)
    story.proposed.pop(place, None)
    fact = story.facts.get(record.activity)
    if fact is None:
        return
    if place[0] == "~":
        by_hand = record.type == "operator.completed_by_hand"
        fact.undo = "skipped" if record.type == "operator.skipped" else "by_hand" if by_hand else ""
        if not fact.undo:
            _replan(story, record.activity)
    elif record.type == "operator.completed_by_hand" and "function" not in data and not data.get("found"):
        end(seen, record.activity, "done", "then")
        story.disputed.add(record.activity)
        pass_pivot(story, record.activity, done=True)
    fact.proposal = None


def _replan(story: Story, activity: str) -> None:
    """An undo that takes its turn again joins the plan of the innermost scope that undoes, else of the saga."""
    for place in story.around(activity):
        if place.owner in story.plans and place.block in ("", "body"):
            plan = story.plans[place.owner]
            break
    else:
        if "" not in story.plans:
            return
        plan = story.plans[""]
    if activity not in plan:
        plan.append(activity)
        plan.sort(key=lambda key: -story.facts[key].ended)


@learns("operator.proposed")
def _act_proposed(seen: Seen, record: Record, data: Data) -> None:
    story, place = seen.story, data["place"]
    fact = story.facts.get(record.activity)
    handed = place[0] == "~" and fact is not None and fact.undo == "handed"
    about = fact.taken if handed and fact is not None else story.stuck[place]
    story.proposed[place] = (data["by"], data["act"], data["value"], seen.version, about)


@learns("evidence.proposed")
def _proposed(seen: Seen, record: Record, data: Data) -> None:
    seen.story.facts[record.activity].proposal = (data["by"], data["outcome"], seen.version)


@learns("operator.settled")
def _settled(seen: Seen, record: Record, data: Data) -> None:
    story, done = seen.story, record.data["outcome"] == "done"
    fact = story.facts[record.activity]
    after, fact.after = fact.after, ""
    block = "then" if done else "on_exhausted" if after == "exhausted" else "on_refused"
    if isinstance(story.node(record.activity), CallNode) and not done:
        block = "on_timeout" if after == "expired" else "on_refused"
    end(seen, record.activity, "done" if done else "no", block)
    fact.owed = bool(data.get("owed"))
    story.disputed.add(record.activity)
    pass_pivot(story, record.activity, done=done)


@learns("evidence.checked", "effect.found")
def _evidence(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    fact.owed = False
    if fact.undo not in ("open", "taken"):
        fact.due = fact.armed = 0
    if "gives" in data:  # what the flow waits for is done
        end(seen, record.activity, "done", "then")
    if data.get("plans"):
        fact.state, fact.undo = "done", ""
        _replan(seen.story, record.activity)
