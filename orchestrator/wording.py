"""What a record says, in words on one line: for people who read a timeline. The whole record is in --json.

Rules of this file
- Nothing that only the kernel needs (tokens, bases, hashes), no braces, no microseconds: an instant is a time of day.
- A record type without words of its own shows its facts by name, so a new one is readable at once.
- What is left out or read as an instant is the kernel's own. In what a business wrote (`facts`) everything is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

Data = Mapping[str, Any]

WIDTH_MAX = 150
INSTANTS = frozenset({"due", "expires", "deadline", "until", "was_due"})
HIDDEN = frozenset(
    {"at", "answers", "base", "by", "command_version", "data", "form_schema", "gives", "hash", "opened_at", "people"}
    | {"arrived_at", "kept", "pivot", "place", "reads", "result_type", "saga_id", "takes", "tenant", "then"}
    | {"undoable", "version", "wants", "withdrawn", "earlier", "business_key", "name", "reply"}
)


def in_words(type_: str, data: Data) -> str:
    """One line, at most `WIDTH_MAX` characters."""
    teller = _TELLERS.get(type_)
    text = " ".join((teller(data) if teller else _own(data)).split())
    return text if len(text) <= WIDTH_MAX else text[: WIDTH_MAX - 1] + "…"


def facts(data: Any) -> str:
    """The facts of a business value by name; what is empty is left out."""
    if not isinstance(data, Mapping):
        return _value(data)
    return ", ".join(f"{name} {_value(value)}" for name, value in data.items() if not _empty(value))


def _own(data: Data) -> str:
    """The facts of a record: also without what only the kernel needs, and instants as people read them."""
    shown = {name: value for name, value in data.items() if name not in HIDDEN}
    return facts({n: clock(v) if n in INSTANTS and v and isinstance(v, int) else v for n, v in shown.items()})


def clock(instant: int) -> str:
    """An instant (microseconds) as people read it."""
    return f"{datetime.fromtimestamp(instant / 1_000_000, UTC):%Y-%m-%d %H:%M:%S}"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"({facts(value)})"
    if isinstance(value, (list, tuple)):
        return ", ".join(_value(item) for item in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "nothing" if value is None else str(value)


def _empty(value: Any) -> bool:
    return value is None or value is False or value in ("", [], {})


def _until(data: Data) -> str:
    return f", until {clock(data['due'])}" if data.get("due") else ""


def _again(data: Data) -> str:
    return f", attempt {data['attempt']}" if data.get("attempt", 1) > 1 else ""


def _why(data: Data) -> str:
    return f": {data['reason']}" if data.get("reason") else ""


def _started(data: Data) -> str:
    parent = data.get("parent") or {}
    child = f", called by {parent.get('saga_id')} at {parent.get('activity')}" if parent else ""
    onward = ", only forward" if data.get("forward_only") else ""
    return f"{data.get('type', '')}{child}{onward}: {facts(data.get('data'))}"


def _asked(data: Data) -> str:
    command = data.get("command") or {}
    whom = f" to {command['participant']}" if command.get("participant") else ""
    what = f"{command.get('type') or command.get('saga', 'the same again')}{whom}"
    body = f": {facts(command['body'])}" if command.get("body") else ""
    return f"{what}{_again(data)}{_until(data)}{body}"


def _published(data: Data) -> str:
    event = data.get("event") or {}
    return f"{event.get('type', '')}: {facts(event.get('body'))}"


def _entered(data: Data) -> str:
    ends = " or ".join(dict.fromkeys(str(wait.get("type")) for wait in data.get("wants") or ()))
    return (f"may be ended by {ends}" if ends else "") + _until(data)


def _interrupted(data: Data) -> str:
    return f"by {data['type']}: {facts(data.get('event'))}" if data.get("by") == "event" else "its time is over"


def _task(data: Data) -> str:
    for_whom = ", ".join(f"{kind} {who}" for to in data.get("to") or () for kind, who in to.items() if who)
    barred = f", not {', '.join(data['excluded'])}" if data.get("excluded") else ""
    until = f", until {clock(data['expires'])}" if data.get("expires") else ""
    return f"for {for_whom or 'nobody'}{barred}{until}: {facts(data.get('shown'))}"


def _vote(data: Data) -> str:
    vote = data.get("vote") or {}
    for_ = f" for {vote['on_behalf_of']}" if vote.get("on_behalf_of") else ""
    roles = f" ({', '.join(vote['roles'])})" if vote.get("roles") else ""
    return f"{vote.get('outcome')} by {vote.get('by')}{roles}{for_}{_why(vote)}"


def _asked_of(data: Data) -> str:
    """Of whom something is asked from now on: a level, or a task that was given to others."""
    to = ", ".join(f"{kind} {who}" for entry in data.get("to") or () for kind, who in entry.items() if who)
    until = f", time until {clock(data['expires'])}" if data.get("expires") else ""
    by = f" by {data['by']}" if data.get("by") else ""
    level = f"level {data['level']}: " if data.get("level") else ""
    return f"{level}asked of {to}{by}{until}{_why(data)}"


def _reminded(data: Data) -> str:
    return f"reminder {data.get('number', '')}"


def _held(data: Data) -> str:
    held = data.get("held_by", "")
    return f"by {data.get('by', '')}" + (f", was held by {held}" if held else "") + _why(data)


def _substituted(data: Data) -> str:
    if not data.get("to"):
        return f"nobody stands in for {data.get('by', '')} any more"
    until = f" until {clock(data['until'])}" if data.get("until") else ""
    return f"{data['to']} may decide for {data.get('by', '')}{until}{_why(data)}"


def _commented(data: Data) -> str:
    again = " rewrote" if data.get("replaces") else ""
    return f"{data.get('by', '')}{again}: {data.get('text', '')}"


def _attached(data: Data) -> str:
    return f"{data.get('title', '')} {data.get('url', '')} by {data.get('by', '')}"


def _decided(data: Data) -> str:
    decision = data.get("decision") or {}
    by = (decision.get("by") or {}).get("id", "")
    return f"{(decision.get('answer') or {}).get('outcome', '')}{f' by {by}' if by else ''}"


def _turned(data: Data) -> str:
    failure = data.get("failure") or {}
    where = f" at {failure['step']}" if failure.get("step") else ""
    return f"{failure.get('kind', '')}{where}{_why(failure)}"


def _failed(data: Data) -> str:
    again = f", again at {clock(data['due'])}" if data.get("due") else ""
    return f"{data.get('reason') or 'no answer in time'}{_again(data)}{again}"


def _act(data: Data) -> str:
    outcome = f" as {data['outcome']}" if data.get("outcome") else ""
    people = " and ".join(data.get("people") or [data.get("by", "")])
    return f"{data.get('place', '')}{outcome}, by {people}{_why(data)}"


_TELLERS: dict[str, Callable[[Data], str]] = {
    "saga.started": _started,
    "saga.completed": lambda data: f"{data.get('outcome', '')}: {facts(data.get('result'))}".removesuffix(": "),
    "saga.compensated": lambda data: f"{data.get('outcome', '')}{_why(data)}",
    "saga.failing": _turned,
    "saga.stuck": lambda data: f"{data.get('place', '')}{_why(data)}",
    "compensation.started": _turned,
    "undo.planned": lambda data: ", then ".join(data.get("plan") or ["nothing"]),
    "step.requested": _asked,
    "undo.requested": _asked,
    "child.requested": _asked,
    "step.succeeded": lambda data: facts(data.get("result")),
    "child.completed": lambda data: facts(data.get("result")),
    "step.refused": lambda data: str(data.get("reason") or ""),
    "step.failed": _failed,
    "step.timed_out": _failed,
    "undo.failed": _failed,
    "fence.failed": _failed,
    "fence.requested": lambda data: f"asked what became of it{_again(data)}{_until(data)}",
    "event.published": _published,
    "scope.entered": _entered,
    "scope.interrupted": _interrupted,
    "task.opened": _task,
    "task.amended": _task,
    "task.voted": _vote,
    "task.decided": _decided,
    "task.escalated": _asked_of,
    "task.reassigned": _asked_of,
    "task.reminded": _reminded,
    "task.claimed": _held,
    "task.released": _held,
    "task.delegated": _substituted,
    "task.commented": _commented,
    "task.attached": _attached,
    "timer.set": lambda data: f"until {clock(data['due'])}" if data.get("due") else "",
    "value.computed": lambda data: facts(data.get("value")),
    "branch.taken": lambda data: str(data.get("label", "")),
    "evidence.proposed": _act,
}
"""Words of their own for records whose facts need putting in order."""
_TELLERS |= {
    f"operator.{did}": _act for did in ("retried", "settled", "skipped", "completed_by_hand", "gave_back", "proposed")
}
