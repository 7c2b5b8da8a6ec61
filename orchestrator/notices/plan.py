"""Who is told about a record of a task. Pure: records and what is known beside them in, recipients out.

Rules of this file
- Candidates hear of a task that is opened, and of reminders, but not those who may not decide it or have voted already.
- Those of an escalation level hear of it, and only they: the others were told before.
- Those who voted hear that what they voted on has changed. Whoever started the saga hears what became of it.
- A group is told as a group, at the address of its own; nobody looks into it.
- Whoever stands in for a candidate who is away is told as well; the candidate too, who may be back sooner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orchestrator.messages.canonical import instant_text
from orchestrator.notices.contract import Kind
from orchestrator.notices.preferences import instant
from orchestrator.notices.words import line, title_of
from orchestrator.store.contract import StoredRecord

KINDS: Mapping[str, Kind] = {
    "task.opened": "opened",
    "task.delegated": "delegated",
    "task.reassigned": "reassigned",
    "task.amended": "amended",
    "task.reminded": "reminded",
    "task.escalated": "escalated",
    "task.decided": "decided",
    "task.expired": "expired",
}
OPEN_ONLY = frozenset(KINDS.values()) - {"decided", "expired"}  # a notice that helps nobody once the task is closed
WHO_MAX = 500  # recipients of one record


@dataclass(frozen=True, slots=True)
class Beside:
    """What is known beside a record. task: the data of the task's row, as it is now; {} where it is gone.

    started_by: the actor of the saga's first record. voters: who had voted when the record was written.
    """

    saga: str
    business_key: str
    started_by: str = ""
    task: Mapping[str, Any] = field(default_factory=dict)
    due: int = 0
    is_open: bool = True
    voters: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Planned:
    """What is to be told. who: "person:maria", "role:manager". due: when the task must be decided, 0 for never."""

    kind: Kind
    who: tuple[str, ...]
    due: int
    facts: Mapping[str, Any]
    barred: frozenset[str] = frozenset()  # ids of people who may not decide, and so are not told for others either


def planned(record: StoredRecord, beside: Beside, task_id: str) -> Planned:
    """What a record of one of KINDS has to tell, and whom. No people where it would be too late to tell them."""
    kind, data = KINDS[record.type], record.data
    too_late = kind in OPEN_ONLY and not beside.is_open
    who = () if too_late else tuple(dict.fromkeys(_recipients(kind, data, beside)))[:WHO_MAX]
    facts = {
        "task": task_id,
        "saga": line(beside.saga, 100),
        "business_key": line(beside.business_key, 200),
        "title": title_of(record.activity, str(data.get("title") or beside.task.get("title") or "")),
        "to": list(who),
        "at": instant_text(instant(record.recorded_at)),
        "level": int(data.get("level", 0)),
        "outcome": line(data.get("outcome", ""), 60) if kind == "decided" else "",
    }
    due = (beside.due or int(data.get("expires", 0))) if kind in OPEN_ONLY else 0
    return Planned(kind, who, due, facts, frozenset(_barred(beside.task) | set(data.get("excluded", ()))))


def with_substitutes(plan: Planned, of: Mapping[str, Sequence[str]]) -> Planned:
    """Whoever stands in for somebody who is asked is told as well. of: substitutes by person, ids."""
    if plan.kind not in OPEN_ONLY or plan.kind == "amended":
        return plan
    asked = [who.removeprefix("person:") for who in plan.who if who.startswith("person:")]
    more = [f"person:{one}" for person in asked for one in of.get(person, ()) if one not in plan.barred]
    who = tuple(dict.fromkeys((*plan.who, *more)))[:WHO_MAX]
    return replace(plan, who=who, facts={**plan.facts, "to": list(who)})


def _recipients(kind: Kind, data: Mapping[str, Any], beside: Beside) -> Iterable[str]:
    if kind in ("decided", "expired"):
        return [beside.started_by] if beside.started_by.startswith("person:") else []
    if kind == "amended":
        return [f"person:{voter}" for voter in beside.voters]
    barred = _barred(beside.task)
    if kind == "delegated":  # `to` is one person, "" where it was taken back
        to = data.get("to")
        people = _entries([{"person": to}] if isinstance(to, str) and to else to)
    elif kind == "reminded":
        people = _asked_at(beside.task, int(data.get("at", 0)))
    else:
        people = _entries(data.get("to"))
        barred |= set(data.get("excluded", ()))
    return [name for entry in people if (name := _candidate(entry)) and name not in {f"person:{id_}" for id_ in barred}]


def _asked_at(task: Mapping[str, Any], at: int) -> list[Mapping[str, Any]]:
    """Who was asked at this instant: without the levels that came then or later, who were told on their own."""
    people = _entries(task.get("to"))
    for level in task.get("escalated", ()):
        for entry in _entries(level.get("to")) if level["at"] >= at else ():
            if entry in people:
                people.remove(entry)
    return people


def _entries(value: Any) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _candidate(entry: Mapping[str, Any]) -> str:
    if entry.get("person"):
        return f"person:{entry['person']}"
    return f"role:{entry['role']}" if entry.get("role") else ""


def _barred(task: Mapping[str, Any]) -> set[str]:
    """Who may not decide this task (any more): excluded, voted already, an earlier approver, whoever reassigned it."""
    voted = {vote["by"] for vote in task.get("votes", ())}
    return voted.union(task.get("excluded", ()), task.get("earlier", ()), task.get("steered", ()))


def voters_before(records: Iterable[StoredRecord], activity: str) -> list[str]:
    """Who has voted on a task since it was opened or amended last, from its saga's records up to then."""
    found: dict[str, None] = {}
    for record in records:
        if record.activity != activity:
            continue
        if record.type in ("task.opened", "task.amended"):
            found.clear()
        elif record.type == "task.voted":
            vote = record.data["vote"]
            found.update(dict.fromkeys(name for name in (vote["by"], vote.get("on_behalf_of")) if name))
    return list(found)
