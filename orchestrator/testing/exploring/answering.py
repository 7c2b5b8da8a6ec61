"""Checks of answers, timers and children: nothing definite is dropped, and nothing is believed without an answer."""

from __future__ import annotations

from typing import Any

from orchestrator.kernel.graph import ScopeNode, StepNode
from orchestrator.kernel.inputs import Answer, ChildAnswer, Operate, SendRefused, Start, TimerDue
from orchestrator.kernel.records import Record
from orchestrator.testing.exploring.story import Fact, Seen

ALARM_ATTEMPTS = 10
NOTES = ("reply.late", "reply.contradicted", "evidence.checked", "effect.found")


def check_answers(seen: Seen, record: Record) -> None:
    """Before the record is learned: what it says is what came."""
    if check := CHECKS.get(record.type):
        check(seen, record)


def effect_planned(seen: Seen, record: Record) -> None:
    """An effect that was found while the saga goes back joins the plan (rule 15)."""
    story, data = seen.story, record.data
    if data["outcome"] == "ok" and story.phase == "compensating" and story.undoable(record.activity):
        seen.demand(data.get("plans"), f"the effect of {record.activity} was found, and is not planned")
    waits = f"!{record.activity}" in story.stuck and f"!{record.activity}" not in story.found
    goes_on = waits and data["outcome"] == "ok"
    text = f"the effect of {record.activity} was found, and its place is stuck: {waits}, goes on: {'gives' in data}"
    seen.demand(goes_on == ("gives" in data), text)


def nothing_dropped(seen: Seen, before: dict[str, Fact]) -> None:
    """After a turn. `before`: the facts of the activity that the input was about, as they were."""
    given = seen.given
    if isinstance(given, TimerDue):
        _timer(seen, given, before)
    elif isinstance(given, Answer):
        _answer(seen, given, before)
    elif isinstance(given, SendRefused):
        told = any(r.type == "saga.stuck" and r.data["cause"] == "size" for r in seen.records)
        seen.demand(told or seen.refusal, f"message {given.version} was refused for good, and nobody is told (rule 30)")
    elif isinstance(given, Start) and seen.version > len(seen.records):
        seen.demand(not seen.records or seen.story.more, "a second start changed something")


def _answer(seen: Seen, given: Answer, before: dict[str, Fact]) -> None:
    fact = before.get(given.activity)
    if fact is None or fact.kind != "step":
        text = f"an answer to {given.activity}, which is no step, changed something"
        seen.demand(not seen.records or seen.story.more, text)
        return
    ours = [r.type for r in seen.records if r.activity == given.activity]
    if given.purpose in ("do", "fence"):
        definite = given.outcome in ("ok", "refused", "not_done")
        if fact.unknown and definite and given.round == fact.round:
            expected = "step.succeeded" if given.outcome == "ok" else "step.refused"
            seen.demand(ours[:1] == [expected], f"{given.outcome} for {given.activity} gave {ours}, not {expected}")
        elif definite and not fact.reads:
            seen.demand(set(ours) & set(NOTES), f"a definite answer for {given.activity} left no record (rule 11)")
        elif not definite and given.purpose == "do" and fact.attempt != given.attempt:
            text = f"an error of attempt {given.attempt} of {given.activity} counted (rule 8)"
            seen.demand(not ours or seen.story.more or given.outcome == "never", text)
        _contradiction(seen, given, fact)
    elif given.purpose == "undo" and given.outcome in ("ok", "refused"):
        open_ = fact.undo == "open" or (given.outcome == "ok" and fact.undo in ("", "stuck") and fact.undo_attempt)
        if open_ and given.round == fact.undo_round and not fact.undo_no:
            expected = "undo.succeeded" if given.outcome == "ok" else "undo.failed"
            seen.demand(ours[:1] == [expected], f"undo {given.outcome} for {given.activity} gave {ours} (rule 11)")
        else:
            seen.demand(ours, f"a definite answer of an undo of {given.activity} left no record (rule 11)")


def _contradiction(seen: Seen, given: Answer, fact: Fact) -> None:
    if fact.unknown or fact.owed or fact.reads or given.round != fact.round or fact.state not in ("done", "no"):
        return
    if given.outcome in ("ok", "refused", "not_done"):
        contradicts = (given.outcome == "ok") != (fact.state == "done")
        types = [r.type for r in seen.records if r.activity == given.activity]
        seen.demand(
            ("reply.contradicted" in types) == contradicts, f"{given.activity} is {fact.state}, {given.outcome} comes"
        )


def _timer(seen: Seen, given: TimerDue, before: dict[str, Fact]) -> None:
    if not given.activity:
        return
    fact = before.get(given.activity)
    stale = fact is None or not fact.due or fact.armed != given.armed
    text = f"a stale timer of {given.activity} changed something (rule 5)"
    seen.demand(not (stale and seen.records) or seen.story.more, text)
    if not stale:
        seen.demand(seen.records, f"the timer of {given.activity} changed nothing")
        assert fact is not None
        seen.demand(fact.due <= seen.now, f"the timer of {given.activity} acted before it was due (V23)")
        _scope_limit(seen, given.activity, fact)


def _scope_limit(seen: Seen, activity: str, fact: Fact) -> None:
    """A scope's time is over: its handler follows, else its own undo, else the failure goes out (S5)."""
    node, first = seen.story.node(activity), seen.records[0]
    if not isinstance(node, ScopeNode) or fact.mode != "open":
        return
    mine = first.activity == activity
    if "on_timeout" in node.blocks and "on_timeout" not in node.own_failures:
        follows = mine and first.type == "scope.interrupted"
    elif "on_failed" in node.blocks:
        follows = mine and first.type == "scope.failing"
    else:
        follows = not mine and first.type in ("scope.failing", "compensation.started", "saga.failing")
    follows = follows or first.type == "saga.stuck"
    seen.demand(follows, f"the time of {activity} is over, and {first.type} {first.activity} follows")


def _by_answer(seen: Seen, record: Record) -> None:
    """A definite outcome of a step needs a definite answer for its round; only a read may be given up."""
    given = seen.given
    fact = seen.story.facts[record.activity]
    seen.demand(fact.unknown, f"{record.type} {record.activity}, which is {fact.state}")
    if record.data.get("exhausted"):
        seen.demand(fact.reads, f"{record.activity} is given up without being settled (rule 10)")
        return
    wanted = ("ok",) if record.type == "step.succeeded" else ("refused", "not_done")
    fits = isinstance(given, Answer) and given.activity == record.activity and given.outcome in wanted
    seen.demand(fits and given.round == fact.round, f"{record.type} {record.activity} without such an answer")  # type: ignore[union-attr]
    if record.type == "step.succeeded":
        seen.demand(record.data["result"] == given.data, f"{record.activity}: another result than answered")  # type: ignore[union-attr]


def _attempt_over(seen: Seen, record: Record) -> None:
    story, given, activity = seen.story, seen.given, record.activity
    fact = story.facts[activity]
    seen.demand(fact.unknown and not fact.fence, f"{record.type} {activity}, which is {fact.state} {fact.fence}")
    if record.type == "step.failed":
        if record.data.get("unsent"):
            seen.demand(isinstance(given, SendRefused), f"{activity}: unsent, but nobody refused it")
            return
        fits = isinstance(given, Answer) and given.activity == activity and given.attempt == fact.attempt
        seen.demand(fits, f"{activity}: an error that is not of attempt {fact.attempt} counts (rule 8)")
    else:
        fits = isinstance(given, TimerDue) and given.activity == activity and given.armed == fact.armed
        seen.demand(fits, f"{activity}: timed out without its timer (rule 5)")
    node = story.node(activity)
    assert isinstance(node, StepNode)
    tries = fact.attempt - fact.base
    patient = (story.pivot == "passed" or story.forward_only) and "on_exhausted" not in node.blocks
    gave_up = bool(record.data.get("gave_up"))
    if gave_up and not fact.reads and (node.pivot or "on_exhausted" in node.blocks):
        after = [r.type for r in seen.records[seen.index + 1 :]]
        seen.demand(after[:1] == ["fence.requested"], f"{activity} gave up, and is not settled: {after} (rule 10)")
    alarm = not gave_up and tries >= ALARM_ATTEMPTS
    told = bool(record.data.get("alarm"))
    seen.demand(told == alarm, f"{activity}: alarm after {tries} tries: {told} (rule 10)")
    must = bool(node.retry.attempts) and tries >= node.retry.attempts and not patient
    seen.demand(gave_up == must, f"{activity}: {tries} tries of {node.retry.attempts}, gave up: {gave_up} (rule 10)")


def _asked(seen: Seen, record: Record) -> None:
    """Attempts count up; a retry is asked only while the outcome of its round is unknown (rule 4)."""
    story, data = seen.story, record.data
    fact = story.facts.get(record.activity)
    if "command" in data:
        typed = [
            r for r in story.records if r.activity == record.activity and "function" in r.data and "value" in r.data
        ]
        if typed and typed[-1].data["function"].endswith("#build"):
            body, value = data["command"]["body"], typed[-1].data["value"]
            seen.demand(body == value, f"{record.activity} asks {body}, typed by hand was {value} (rule 27)")
        if fact is not None:
            owed = [*fact.earlier, *([story.keys["do", record.activity, fact.round]] if fact.owed else [])]
            named = data.get("earlier", [])
            seen.demand(named == owed, f"{record.activity}: earlier keys {named}, must be {owed} (rule 15)")
        seen.demand(data["attempt"] == 1, f"{record.activity}: a round begins with attempt {data['attempt']}")
        return
    assert fact is not None
    seen.demand(fact.unknown, f"{record.activity} is asked again, but it is {fact.state} (rule 4)")
    seen.demand(not fact.fence, f"{record.activity} is asked again while it is being settled")
    seen.demand(data["round"] == fact.round, f"{record.activity}: attempt in round {data['round']} of {fact.round}")
    seen.demand(data["attempt"] == fact.attempt + 1, f"{record.activity}: attempts jump to {data['attempt']}")
    closing = story.phase == "compensating" or story.closing_around(record.activity) is not None
    seen.demand(not closing, f"{record.activity} is asked again while its surroundings close")


def _undo_answer(seen: Seen, record: Record) -> None:
    given, activity = seen.given, record.activity
    fact = seen.story.facts[activity]
    seen.demand(fact.undo not in ("done", "by_hand", "skipped"), f"{activity} is undone twice (V9)")
    if isinstance(given, Operate):  # the evidence of two people, where the participant can never know
        fits = given.act == "settle" and fact.undo == "taken"
    elif fact.kind == "call":
        fits = isinstance(given, ChildAnswer) and given.activity == activity and given.outcome in ("undone", "failed")
    else:
        fits = isinstance(given, Answer) and given.activity == activity and given.outcome == "ok"
        fits = fits and given.purpose in ("undo", "fence_undo") and given.round == fact.undo_round  # type: ignore[union-attr]
    seen.demand(fits, f"undo.succeeded {activity} without such an answer")


def _undo_failed(seen: Seen, record: Record) -> None:
    given, activity, data = seen.given, record.activity, record.data
    fact = seen.story.facts[activity]
    if data.get("refused"):
        seen.demand(isinstance(given, (Answer, ChildAnswer)) and given.activity == activity, f"{activity}: no refusal")
    elif fact.undo == "open" and isinstance(given, Answer) and given.activity == activity:
        seen.demand(given.attempt == fact.undo_attempt, f"undo of {activity}: a late error counts (rule 8)")


def _child_ended(seen: Seen, record: Record) -> None:
    given, activity = seen.given, record.activity
    fact = seen.story.facts[activity]
    seen.demand(fact.unknown, f"{record.type} {activity}, which is {fact.state}")
    wanted: Any = ("completed", "pivot_passed") if record.type == "child.completed" else ("failed", "refused", "undone")
    fits = isinstance(given, ChildAnswer) and given.activity == activity and given.outcome in wanted
    seen.demand(fits and given.round == fact.round, f"{record.type} {activity} without such an answer")  # type: ignore[union-attr]
    if record.type == "child.completed":
        node: Any = seen.story.node(activity)
        late = fact.fence and not node.pivot and given.outcome == "completed"  # type: ignore[union-attr]
        seen.demand(not late, f"{activity}: completed counts although it was asked to undo itself")
        told = given.outcome == "completed" or given.reason == "completed" or fact.early  # type: ignore[union-attr]
        seen.demand(told, f"{activity}: completed counts, but its child has only passed its pivot")


def _child_early(seen: Seen, record: Record) -> None:
    given, fact = seen.given, seen.story.facts[record.activity]
    seen.demand(
        fact.unknown and bool(fact.fence), f"{record.type} {record.activity}, which was not asked to undo itself"
    )
    fits = isinstance(given, ChildAnswer) and given.activity == record.activity and given.outcome == "completed"
    seen.demand(fits and given.round == fact.round, f"{record.type} {record.activity} without such an answer")  # type: ignore[union-attr]


def _size(seen: Seen, record: Record) -> None:
    if record.data["cause"] == "size" and isinstance(seen.given, SendRefused):
        fact = seen.story.facts.get(record.activity)
        still = fact is not None and fact.kind == "step" and fact.unknown and fact.due
        seen.demand(not still, f"{record.activity} was refused for good, and its clock still runs (rule 30)")
        return
    if isinstance(seen.given, Operate) and record.data["cause"] == "never":
        raise seen.fail("an operator's act makes a place unknowable")


def _handed(seen: Seen, record: Record) -> None:
    """Only a definite "not done" hands an undo to a person (rule 19)."""
    given, activity = seen.given, record.activity
    fact = seen.story.facts[activity]
    seen.demand(fact.undo == "taken", f"{activity} is handed over, but its undo is {fact.undo}")
    if isinstance(given, Operate):
        if given.act == "settle":
            people = record.data.get("people", [])
            seen.demand(len(set(people)) == 2, f"{activity}: one person's word hands its undo over")
            return
        ways = [r for r in seen.story.records if r.activity == activity and r.type.startswith("undo.")]
        known = [n for n, r in enumerate(ways) if r.data.get("refused") or r.type == "undo.handed"]
        open_ = ways[known[-1] + 1 :] if known else ways  # what nobody has answered definitely
        asked = any(r.type == "undo.requested" for r in open_)
        seen.demand(not asked, f"the undo of {activity} was asked once, and is handed over without a fence")
        return
    fits = isinstance(given, Answer) and given.activity == activity and given.purpose == "fence_undo"
    fits = fits and given.outcome in ("not_done", "refused") and given.round == fact.undo_round  # type: ignore[union-attr]
    seen.demand(fits, f"{activity} is handed over on no definite answer")


def _in_doubt(seen: Seen, record: Record) -> None:
    """In doubt is no answer: the participant is asked again when it says, and no try is burnt (rule 13)."""
    given = seen.given
    if isinstance(given, Answer) and given.purpose == "fence" and given.outcome == "in_doubt" and given.until:
        due = record.data.get("due") or 0
        seen.demand(due >= given.until, f"{record.activity} is in doubt until {given.until}, asked again at {due}")


CHECKS = {
    "fence.failed": _in_doubt,
    "effect.found": effect_planned,
    "step.succeeded": _by_answer,
    "step.refused": _by_answer,
    "step.failed": _attempt_over,
    "step.timed_out": _attempt_over,
    "step.requested": _asked,
    "undo.succeeded": _undo_answer,
    "undo.failed": _undo_failed,
    "undo.handed": _handed,
    "child.completed": _child_ended,
    "child.failed": _child_ended,
    "child.completed_early": _child_early,
    "saga.stuck": _size,
}
