"""Checks of tasks: who may vote, what time does to a task, and what people do with it beside deciding.

Rules of this file
- Both ways: what was recorded was allowed, and what was allowed was recorded.
- Concluded from records and definition alone; nothing is taken from the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from orchestrator.kernel.effects import TaskRow
from orchestrator.kernel.graph import TaskNode, node_path
from orchestrator.kernel.inputs import Arrived, TaskAct, Vote
from orchestrator.kernel.records import Record
from orchestrator.testing.exploring.story import Fact, Seen

MS = 1000
VERBS = {
    "claim": "task.claimed", "release": "task.released", "delegate": "task.delegated", "reassign": "task.reassigned",
    "comment": "task.commented", "attach": "task.attached",
}  # fmt: skip
Right = tuple[str, tuple[str, ...]]  # whose ("" is one's own), and their roles


def voted(seen: Seen, record: Record) -> None:
    """A vote that counts: eligible, not excluded, once a person, on what is shown now, in time (V21, V22)."""
    vote = seen.given
    fact = seen.story.facts[record.activity]
    seen.demand(isinstance(vote, Vote) and vote.activity == record.activity, f"{record.activity}: a vote from nowhere")
    assert isinstance(vote, Vote)
    why = why_not(seen, vote, fact)
    seen.demand(not why, f"the vote of {vote.by} on {record.activity} counts, but {why}")
    cast = record.data["vote"]
    may = [behalf for behalf, roles in _rights(vote, fact) if not _barred(seen, vote, fact, behalf, roles)]
    seen.demand(cast["on_behalf_of"] in may, f"the vote of {vote.by} counts for {cast['on_behalf_of']!r}, not {may}")
    seen.demand(cast["by"] == vote.by, f"the vote of {vote.by} is recorded as that of {cast['by']}")


def why_not(seen: Seen, vote: Vote, fact: Fact) -> str:
    """Why a vote may not count, or ""."""
    node, story = seen.story.node(vote.activity), seen.story
    assert isinstance(node, TaskNode)
    reasons = {
        "the task is not open": fact.state != "open",
        "the saga goes back": story.phase not in ("forward", "on_failed"),
        "it came too late": vote.received_at >= fact.task["expires"],
        "another subject is shown": vote.subject_hash != fact.task["hash"],
        "the outcome is none": vote.answer.get("outcome") not in node.outcomes,
    }
    found = next((text for text, holds in reasons.items() if holds), "")
    barred = [_barred(seen, vote, fact, behalf, roles) for behalf, roles in _rights(vote, fact)]
    return found or ("" if "" in barred else next(iter(barred), "they stand in for nobody"))


def _rights(given: Vote | TaskAct, fact: Fact) -> Iterator[Right]:
    """Every right that this person could act with."""
    named = given.on_behalf_of if isinstance(given, Vote) else ""
    if named in ("", given.by):
        yield "", given.roles
    for person, known in fact.delegations.items():
        lends = known["to"] == given.by and given.received_at < known["until"] and person not in given.barred
        if lends and named in ("", person):
            now = {held.person: held.roles for held in given.holds}.get(person, known["roles"])
            yield person, tuple(role for role in known["roles"] if role in now)
    for absent in given.stands_in:
        if absent.since <= given.received_at < absent.until and named in ("", absent.person):
            yield absent.person, absent.roles


def _barred(seen: Seen, given: Vote | TaskAct, fact: Fact, behalf: str, roles: tuple[str, ...]) -> str:
    """Why this person may not decide by this right, or ""."""
    person = behalf or given.by
    heads = {given.by, person}
    reasons = {
        "the person is excluded": heads & out(seen, given.activity, fact),
        "the person chose who decides": heads & set(fact.steered),
        "the person is not eligible": not any(e.get("person") == person or e.get("role") in roles for e in fact.to),
        "the person has voted": any(heads & {cast["by"], cast["on_behalf_of"]} for cast in fact.votes),
        "the amount is above the limit": isinstance(given, Vote) and not _covered(seen, given, fact, person, roles),
    }
    return next((text for text, holds in reasons.items() if holds), "")


def out(seen: Seen, activity: str, fact: Fact) -> set[str]:
    """Who is excluded: by name, and everybody who ever voted, or was voted for, on a task that this one excludes."""
    node = seen.story.node(activity)
    assert isinstance(node, TaskNode)
    voters = {
        name
        for key, other in seen.story.facts.items()
        if node_path(key) in node.exclude_tasks
        for cast in (*other.votes, *other.void)
        for name in (cast["by"], cast["on_behalf_of"])
    }
    return (voters | set(fact.task["excluded"])) - {""}


def _covered(seen: Seen, given: Vote, fact: Fact, person: str, roles: tuple[str, ...]) -> bool:
    node: Any = seen.story.node(given.activity)
    amount = fact.task.get("amount")
    if not node.limits or amount is None:
        return True
    mine = [one for one in node.limits if one.get("person") == person or one.get("role") in roles]
    return any(
        "amount" not in one
        or (one["currency"] == amount["currency"] and Decimal(amount["amount"]) <= Decimal(one["amount"]))
        for one in mine
    )


def votes_counted(seen: Seen, before: dict[str, Fact]) -> None:
    """After a turn: a vote that may count has counted, and decides when enough agree."""
    vote = seen.given
    if not isinstance(vote, Vote) or f"!{vote.activity}" in seen.story.stuck:
        return
    fact = before.get(vote.activity)
    types = [r.type for r in seen.records if r.activity == vote.activity]
    if fact is None or fact.kind != "task" or fact.state != "open":
        seen.demand(
            not types or seen.story.more, f"a vote on {vote.activity}, which is not open, changed something (V20)"
        )
        return
    node = seen.story.node(vote.activity)
    assert isinstance(node, TaskNode)
    if "task.escalated" in types:  # a level that was due set the clock anew before the vote
        now = seen.story.facts[vote.activity]
        fact.task, fact.to = dict(fact.task, expires=now.task["expires"]), now.to
    if "task.voted" not in types:
        may = not why_not(seen, vote, fact)
        seen.demand(not may, f"the vote of {vote.by} on {vote.activity} may count, but was refused: {seen.refusal}")
        return
    outcome = vote.answer["outcome"]
    agree = 1 + sum(cast["outcome"] == outcome for cast in fact.votes)
    decides = outcome in node.rejects or agree >= node.votes
    seen.demand(("task.decided" in types) == decides, f"{vote.activity}: {agree} of {node.votes} agree, got {types}")


# --- time -------------------------------------------------------------------------------------------------------------


def opened(seen: Seen, record: Record) -> None:
    """Levels, reminders and the first timer are as defined; who is out is out; a limit has its amount."""
    node, data = seen.story.node(record.activity), record.data
    assert isinstance(node, TaskNode)
    levels = [seen.now + level.after_ms * MS for level in node.escalate]
    given = [level["at"] for level in data["levels"]]
    seen.demand(levels == given, f"{record.activity}: levels at {given}, must be at {levels}")
    reminders = sorted(seen.now + one.after_ms * MS for one in node.remind)
    given = data.get("reminders", [])
    seen.demand(reminders == given, f"{record.activity}: reminders at {given}, must be at {reminders}")
    due = min([data["expires"], *levels, *reminders])
    seen.demand(data["due"] == due, f"{record.activity}: its first timer is wrong")
    seen.demand(len(data["excluded"]) >= len(node.exclude), f"{record.activity}: nobody is excluded")
    seen.demand(bool(node.amount) == ("amount" in data), f"{record.activity}: its amount was not read")
    earlier = set(out(seen, record.activity, Fact("task", 0, 0, task={"excluded": []})))
    seen.demand(set(data.get("earlier", ())) == earlier, f"{record.activity}: earlier voters are {earlier}")


def escalated(seen: Seen, record: Record) -> None:
    """Level by level, each once, in order; under `last` those that were overdue together as one (V24)."""
    fact, node, data = seen.story.facts[record.activity], seen.story.node(record.activity), record.data
    assert isinstance(node, TaskNode)
    level, missed = data["level"], data.get("missed", [])
    text = f"{record.activity}: level {level} follows level {fact.level}, {len(missed)} were missed (V24)"
    seen.demand(level == fact.level + 1 + len(missed), text)
    seen.demand(not missed or node.catch_up == "last", f"{record.activity}: levels {missed} are passed over (V24)")
    seen.demand(fact.state == "open", f"{record.activity} escalates, but it is {fact.state}")
    at = [fact.opened_at + one.after_ms * MS for one in node.escalate]
    seen.demand(at[level - 1] <= seen.now, f"{record.activity}: level {level} too early")
    seen.demand(at[fact.level] < fact.task["expires"], f"{record.activity}: level {level} after the end of its time")
    to = list(node.escalate[level - 1].to)
    seen.demand(list(data["to"]) == to, f"{record.activity}: level {level} goes to others")
    reset = any(one.reset_sla for one in node.escalate[fact.level : level])
    expires = seen.now + (node.within.ms or 0) * MS if reset else fact.task["expires"]
    given = data.get("expires", fact.task["expires"])
    seen.demand(given == expires, f"{record.activity}: ends at {given} after level {level}, must end at {expires}")
    rest = at[level:]
    together = node.catch_up == "last" and rest and rest[0] <= seen.now and rest[0] < expires
    seen.demand(not together, f"{record.activity}: level {level + 1} was overdue together with level {level} (V24)")
    ahead = [one for one in fact.reminders if one < at[fact.level]]
    seen.demand(not ahead, f"{record.activity}: level {level} comes before reminders of {ahead}")
    due, given = min([expires, *rest, *fact.reminders]), data["due"]
    seen.demand(given == due, f"{record.activity}: due {given} after level {level}, must be {due}")


def reminded(seen: Seen, record: Record) -> None:
    """Each once, in order of time, and it changes nothing but the next timer."""
    fact, node, data = seen.story.facts[record.activity], seen.story.node(record.activity), record.data
    assert isinstance(node, TaskNode)
    missed = data.get("missed", 0)
    seen.demand(fact.state == "open", f"{record.activity} reminds, but it is {fact.state}")
    seen.demand(not missed or node.catch_up == "last", f"{record.activity}: {missed} reminders are passed over")
    seen.demand(len(fact.reminders) > missed, f"{record.activity} reminds more often than it should")
    at, rest = fact.reminders[missed], fact.reminders[missed + 1 :]
    seen.demand(data["was_due"] == at <= seen.now, f"{record.activity} reminds at {seen.now}, must at {at}")
    seen.demand(at < fact.task["expires"], f"{record.activity} reminds after the end of its time")
    together = node.catch_up == "last" and rest and rest[0] <= seen.now and rest[0] < fact.task["expires"]
    seen.demand(not together, f"{record.activity}: two reminders were overdue together, and are two")
    levels = [fact.opened_at + one.after_ms * MS for one in node.escalate[fact.level :]]
    ahead = [one for one in levels[:1] if one <= fact.reminders[0]]
    seen.demand(not ahead, f"{record.activity}: a reminder comes before the level of {ahead}")
    due = min([fact.task["expires"], *levels, *rest])
    seen.demand(data["due"] == due, f"{record.activity}: due {data['due']} after a reminder, must be {due}")


def expired(seen: Seen, record: Record) -> None:
    """Not too early, and by a timer not before everything that was due in time."""
    fact, node = seen.story.facts[record.activity], seen.story.node(record.activity)
    assert isinstance(node, TaskNode)
    expires = fact.task["expires"]
    now = seen.given.received_at if isinstance(seen.given, Vote) else seen.now
    seen.demand(fact.state == "open" and expires <= now, f"{record.activity} expires too early (V22)")
    missed = [e for e in node.escalate[fact.level :] if fact.opened_at + e.after_ms * MS < expires]
    if not isinstance(seen.given, (Vote, Arrived)):  # a late vote or event finds the task expired at once
        seen.demand(not missed, f"{record.activity} expires, and {len(missed)} levels never came (V24)")
        left = [at for at in fact.reminders if at < expires]
        seen.demand(not left, f"{record.activity} expires, and {len(left)} reminders never came")
    again = [e for e in missed if e.reset_sla and fact.opened_at + e.after_ms * MS <= seen.now]
    seen.demand(not again, f"{record.activity} expires, though a level that was due sets the clock anew")


# --- what people do beside deciding -----------------------------------------------------------------------------------


def acted(seen: Seen, record: Record) -> None:
    """An act that was recorded was allowed, and says who did it."""
    act = seen.given
    known = isinstance(act, TaskAct) and VERBS[act.act] == record.type and act.activity == record.activity
    seen.demand(known, f"{record.type} {record.activity}: nobody did that")
    assert isinstance(act, TaskAct)
    seen.demand(record.data["by"] == act.by, f"{record.type} {record.activity}: done by {act.by}")
    why = why_not_act(seen, act, seen.story.facts[record.activity])
    seen.demand(not why, f"{act.by} may not {act.act} {act.activity}: {why}")
    if record.type == "task.delegated" and record.data["to"]:
        lent = record.data["roles"], record.data["until"]
        may = list(act.roles), act.until or seen.story.facts[record.activity].task["expires"]
        seen.demand(lent == may, f"{act.by} lends {lent} on {act.activity}, must lend {may}")


def acts_counted(seen: Seen, before: dict[str, Fact]) -> None:
    """After a turn: an act that was allowed is recorded, unless it says nothing new."""
    act = seen.given
    if not isinstance(act, TaskAct):
        return
    types = [record.type for record in seen.records if record.activity == act.activity]
    fact = before.get(act.activity)
    if fact is None or fact.kind != "task" or fact.state != "open":
        seen.demand(not types or seen.story.more, f"{act.act} on {act.activity}, which is not open, changed it (V20)")
        return
    if VERBS[act.act] not in types and not _nothing_new(act, fact):
        why = why_not_act(seen, act, fact)
        seen.demand(why, f"{act.act} of {act.by} on {act.activity} is allowed, but was refused: {seen.refusal}")
    seen.demand("task.decided" not in types and "task.expired" not in types, f"{act.act} closes {act.activity} (V20)")


def _nothing_new(act: TaskAct, fact: Fact) -> bool:
    if act.act == "claim":
        return fact.claim == act.by
    if act.act == "delegate":
        return not act.to and act.by not in fact.delegations
    return act.act in ("comment", "attach")  # the same text or link again


def why_not_act(seen: Seen, act: TaskAct, fact: Fact) -> str:
    """Why an act may not be done, or ""."""
    if fact.state != "open" or act.received_at >= fact.task["expires"]:
        return "the task is closed, or its time is over"
    named = {entry["person"] for entry in act.to if "person" in entry}
    excluded = out(seen, act.activity, fact)
    own = _barred(seen, act, fact, "", act.roles)
    if act.act == "claim":
        if all(_barred(seen, act, fact, behalf, roles) for behalf, roles in _rights(act, fact)):
            return "they may not decide it"
        return f"{fact.claim} has it" if fact.claim else ""
    if act.act == "release":
        return "" if fact.claim and (act.by == fact.claim or act.steers) else "it is not theirs to release"
    if act.act == "delegate" and act.to:
        late = bool(act.until) and act.until <= act.received_at
        wrong = late or bool(named & (excluded | set(fact.steered) | {act.by}))
        return own or ("nobody may stand in like that" if wrong else "")
    if act.act == "reassign":
        voters = {name for cast in fact.votes for name in (cast["by"], cast["on_behalf_of"])}
        clean = not named & (excluded | set(fact.steered) | {act.by}) and act.by not in excluded | voters
        return "" if clean and act.steers and act.reason.strip() and act.to else "not like that"
    if act.act == "comment" and act.replaces:
        return "" if fact.comments.get(act.replaces, ("", ""))[0] == act.by else "it is not their comment"
    if act.act == "attach":
        return "" if act.url.startswith("https://") else "it is no link"
    return ""


def rows_agree(seen: Seen, rows: list[TaskRow]) -> None:
    """What lists show of a task is what its records say."""
    for row in rows:
        fact, data = seen.story.facts[row.activity], row.data
        claim = (data.get("claim") or {}).get("by", "")
        shown = {
            "claimed by": (claim, fact.claim),
            "asked of": (list(data["to"]), fact.to),
            "substitutes": ({one["by"]: one["to"] for one in data.get("delegations", ())}, _substitutes(fact)),
            "comments": ({one["id"]: (one["by"], one["text"]) for one in data.get("comments", ())}, fact.comments),
            "who chose": (list(data.get("steered", ())), fact.steered),
            "end": (data["expires"], fact.task["expires"]),
            "reminders": (list(data.get("reminders", ())), fact.reminders),
            "level": (data["level"], fact.level),
            "void votes": (data.get("void", 0), len(fact.void)),
            "excluded": (list(data["excluded"]), list(fact.task["excluded"])),
            "amount": (data.get("amount"), fact.task.get("amount")),
        }
        wrong = {name: pair for name, pair in shown.items() if pair[0] != pair[1]}
        seen.demand(not wrong, f"{row.activity} is shown as {wrong}, what is shown first")


def _substitutes(fact: Fact) -> dict[str, str]:
    return {by: one["to"] for by, one in fact.delegations.items()}


CHECKS = {
    "task.voted": voted,
    "task.opened": opened,
    "task.escalated": escalated,
    "task.reminded": reminded,
    "task.expired": expired,
    **dict.fromkeys(VERBS.values(), acted),
}
