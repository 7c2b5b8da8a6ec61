"""The checker's own fold: one record into the facts of a story. It concludes nothing that the records do not say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from orchestrator.kernel.records import Record
from orchestrator.testing.exploring.story import Fact, Seen, Story

Data = dict[str, Any]
FACTS: dict[str, Callable[[Seen, Record, Data], None]] = {}

OPENS = {
    "step.requested": "step", "child.requested": "call", "task.opened": "task", "event.awaited": "wait",
    "timer.set": "delay", "value.computed": "compute", "branch.taken": "", "loop.opened": "", "parallel.opened": "",
    "scope.entered": "scope", "event.published": "publish", "state.entered": "enter", "scope.kept": "keep",
}  # fmt: skip
ARMS = frozenset({"step.failed", "step.timed_out", "fence.failed", "undo.failed"})  # without due: no timer any more
AT_ONCE = frozenset({"value.computed", "branch.taken", "event.published", "state.entered", "scope.kept"})


def learns(*types: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Registers what these record types tell."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        for type_ in types:
            FACTS[type_] = function
        return function

    return register


def learn(seen: Seen, record: Record) -> None:
    """Folds one record into the story."""
    story, data = seen.story, record.data
    story.records.append(record)
    if record.type in OPENS and opens(record):
        story.facts[record.activity] = _new(seen, record)
    fact = story.facts.get(record.activity)
    if fact is not None and ("due" in data or record.type in ARMS):
        due = data.get("due") or 0
        fact.due, fact.armed = due, seen.version if due else 0
    if teller := FACTS.get(record.type):
        teller(seen, record, data)


def opens(record: Record) -> bool:
    """True where a record opens its activity: a step's does for the first attempt of a round."""
    return record.type != "step.requested" or "command" in record.data


def _new(seen: Seen, record: Record) -> Fact:
    data, story = record.data, seen.story
    kind = story.node(record.activity).kind
    fact = Fact(kind, seen.version, seen.now, round=data.get("round", 1), wants=list(data.get("wants", [])))
    old = story.facts.get(record.activity)
    if old is not None:
        fact.earlier = data.get("earlier", [])
    if kind in ("step", "call"):
        node: Any = story.node(record.activity)
        fact.state, fact.attempt, fact.asked_at = "unknown", data.get("attempt", 1), seen.now
        fact.reads = getattr(node, "reads", False)
        if node.pivot:
            story.pivot, story.pivot_at = "open", record.activity
    elif kind == "task":
        fact.task, fact.to, fact.reminders = data, list(data["to"]), list(data.get("reminders", ()))
    elif kind == "scope":
        fact.mode = "open"
    elif kind == "for_each":
        fact.count = len(data["items"])
        empty = not fact.count or not story.node(record.activity).blocks.get("body")
        fact.state = "over" if empty else "open"
    elif kind == "repeat":
        fact.count = 1
    if record.type in AT_ONCE:
        fact.state, fact.ended = "over", seen.version
        fact.block = data.get("label") if record.type == "branch.taken" else None
    for key in data.get("kept", ()):
        story.facts[key].kept = True
    return fact


def end(seen: Seen, activity: str, state: str, block: str | None = None) -> Fact:
    """The activity has ended so; what it had open goes."""
    fact = seen.story.facts[activity]
    fact.state, fact.block, fact.ended = state, block, seen.version
    fact.due = fact.armed = 0
    fact.wants, fact.fence, fact.proposal = [], "", None
    for sign in "!?":
        seen.story.stuck.pop(sign + activity, None)
    return fact


def pass_pivot(story: Story, activity: str, done: bool) -> None:
    """The pivot's outcome is known."""
    if story.pivot_at == activity:
        story.pivot = "passed" if done else ""


@learns("saga.started")
def _started(seen: Seen, record: Record, data: Data) -> None:
    seen.story.phase, seen.story.started_at = "forward", seen.now
    seen.story.forward_only = data["forward_only"]
    seen.story.deadline = data["deadline"]
    seen.story.tenant = data["tenant"]


@learns("step.requested")
def _asked(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    fact.attempt, fact.base = data["attempt"], data.get("base", fact.base)


@learns("step.succeeded", "child.completed")
def _done(seen: Seen, record: Record, data: Data) -> None:
    fact = end(seen, record.activity, "done", "then")
    fact.under = data.get("under", "")
    pass_pivot(seen.story, record.activity, done=True)


@learns("child.completed_early")
def _early(seen: Seen, record: Record, data: Data) -> None:
    seen.story.facts[record.activity].early = True


@learns("step.refused", "child.failed")
def _refused(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    if record.type == "child.failed":
        block = "on_timeout" if fact.after == "expired" else "on_refused"
    else:
        silent = fact.after == "exhausted" and data.get("not_done")
        block = "on_exhausted" if silent or data.get("exhausted") else "on_refused"
    fact.after = ""
    end(seen, record.activity, "no", block)
    pass_pivot(seen.story, record.activity, done=False)


@learns("fence.requested")
def _fenced(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    if fact.fence in ("", "stuck"):
        fact.fence_base = fact.fence_attempt
    fact.fence, fact.fence_attempt, fact.after = "asked", data["attempt"], data.get("after", "")
    fact.proposal = None
    seen.story.stuck.pop(f"!{record.activity}", None)


@learns("fence.failed")
def _fence_failed(seen: Seen, record: Record, data: Data) -> None:
    seen.story.facts[record.activity].fence = "waiting" if data.get("due") else "stuck"
    if data.get("never"):  # only evidence settles it now
        seen.story.stuck.pop(f"!{record.activity}", None)


@learns("timer.fired", "event.received")
def _waited(seen: Seen, record: Record, data: Data) -> None:
    end(seen, record.activity, "over", "then")
    consume(seen, data)


@learns("event.expired", "task.expired")
def _expired(seen: Seen, record: Record, data: Data) -> None:
    end(seen, record.activity, "over", "on_timeout")


@learns("task.decided")
def _decided(seen: Seen, record: Record, data: Data) -> None:
    blocks = seen.story.node(record.activity).blocks
    outcome = f"on/{data['outcome']}"
    end(seen, record.activity, "over", next((b for b in (outcome, "otherwise") if b in blocks), "then"))


@learns("task.voted")
def _voted(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    fact.votes.append(data["vote"])
    fact.claim = "" if fact.claim == data["vote"]["by"] else fact.claim


@learns("task.amended")
def _amended(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    changed: Data = {name: data[name] for name in ("hash", "shown", "excluded", "amount") if name in data}
    fact.task = {**fact.task, **changed}
    fact.void, fact.votes = fact.void + fact.votes, []
    seen.story.stuck.pop(f"!{record.activity}", None)
    consume(seen, data)


@learns("task.amend_failed")
def _amend_failed(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    fact.task, fact.void, fact.votes = dict(fact.task, hash=""), fact.void + fact.votes, []
    consume(seen, data)


@learns("undo.never_known")
def _never_known(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    fact.due = fact.armed = 0


@learns("task.escalated")
def _escalated(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    fact.level, fact.to = data["level"], fact.to + data["to"]
    fact.task = dict(fact.task, expires=data.get("expires", fact.task["expires"]))


@learns("task.reminded")
def _reminded(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    fact.reminders = fact.reminders[1 + data.get("missed", 0) :]


@learns("task.claimed", "task.released")
def _claimed(seen: Seen, record: Record, data: Data) -> None:
    seen.story.facts[record.activity].claim = data["by"] if record.type == "task.claimed" else ""


@learns("task.delegated")
def _delegated(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    others = {by: known for by, known in fact.delegations.items() if by != data["by"]}
    fact.delegations = {**others, data["by"]: data} if data["to"] else others


@learns("task.reassigned")
def _reassigned(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    fact.to, fact.claim, fact.steered = list(data["to"]), "", [*fact.steered, data["by"]]


@learns("task.commented")
def _commented(seen: Seen, record: Record, data: Data) -> None:
    fact = seen.story.facts[record.activity]
    fact.comments = {**fact.comments, data["replaces"] or seen.version: (data["by"], data["text"])}


@learns("loop.iterated")
def _iterated(seen: Seen, record: Record, data: Data) -> None:
    seen.story.facts[record.activity].count = data["round"] + 1


@learns("loop.left")
def _left(seen: Seen, record: Record, data: Data) -> None:
    for key in data.get("withdrawn", ()):
        end(seen, key, "withdrawn").mode = ""
    end(seen, record.activity, "over", "otherwise" if data.get("exhausted") else None)


@learns("parallel.advanced")
def _advanced(seen: Seen, record: Record, data: Data) -> None:
    if f"-{record.activity}" in data.get("gives", ()):
        end(seen, record.activity, "over")


@learns("scope.left")
def _scope_left(seen: Seen, record: Record, data: Data) -> None:
    end(seen, record.activity, "over", "then").mode = ""


def consume(seen: Seen, data: Data) -> None:
    """This saga took an event."""
    if event := data.get("event_id"):
        seen.story.consumed.add(event)
