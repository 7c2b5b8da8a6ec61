"""Inputs: what people do with a task beside deciding it.

Rules of this file
- Without `roles` a person has those that the task asks for, as in `decided`.
- What they may not do is refused with the kernel's code: `denied("claimed_already")`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from orchestrator.definition.emit import people
from orchestrator.definition.tasks import People, Task
from orchestrator.kernel.inputs import Refusal, StandIn, TaskAct, TaskVerb
from orchestrator.kernel.state import Activity
from orchestrator.testing.answers import anything
from orchestrator.testing.known import At
from orchestrator.testing.places import find, runs
from orchestrator.testing.world import World

US = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Acted:
    """One person's act on an open task."""

    task: Task[..., Any, Any]
    act: TaskVerb
    by: str
    roles: tuple[str, ...] | None
    at: At
    facts: dict[str, Any] = field(default_factory=dict)
    lasts: timedelta | None = None

    def give(self, world: World) -> Refusal | None:
        """Acts on the task as it is now."""
        some_open = any(_is_open(found) for _, _, found in runs(world, self.task, self.at))
        actor, key = find(world, self.task, self.at, _is_open if some_open else anything, "is open")
        row = actor.tasks.get(key)
        wanted = tuple(entry["role"] for entry in (row.data["to"] if row else ()) if "role" in entry)
        until: dict[str, Any] = {"until": world.clock + 1 + self.lasts // US} if self.lasts is not None else {}
        roles = wanted if self.roles is None else self.roles
        return world.give(actor, TaskAct(key, self.act, self.by, roles, world.clock + 1, **self.facts, **until))


def _is_open(found: Activity) -> bool:
    return found.status == "open"


def claimed(task: Task[..., Any, Any], *, by: str, roles: tuple[str, ...] | None = None, at: At = None) -> Acted:
    """Somebody says that they work on it."""
    return Acted(task, "claim", by, roles, at)


def released(
    task: Task[..., Any, Any], *, by: str, operator: bool = False, roles: tuple[str, ...] | None = None, at: At = None
) -> Acted:
    """A claim ends: the holder's own, or anybody's where an operator does it."""
    return Acted(task, "release", by, roles, at, {"steers": operator})


def delegated(
    task: Task[..., Any, Any], *, by: str, to: str, lasts: timedelta | None = None,
    roles: tuple[str, ...] | None = None, at: At = None,
) -> Acted:  # fmt: skip
    """A substitute is named, for so long or as long as the task; `to=""` takes it back."""
    return Acted(task, "delegate", by, roles, at, {"to": ({"person": to},) if to else ()}, lasts)


def reassigned(
    task: Task[..., Any, Any], *, by: str, to: People, reason: str = "they know it better", operator: bool = True,
    at: At = None,
) -> Acted:  # fmt: skip
    """An operator asks other people instead."""
    return Acted(task, "reassign", by, (), at, {"to": tuple(people(to)), "reason": reason, "steers": operator})


def commented(
    task: Task[..., Any, Any], text: str, *, by: str, replaces: int = 0, roles: tuple[str, ...] | None = None,
    at: At = None,
) -> Acted:  # fmt: skip
    """Somebody says something about it. `replaces`: the record version of an own comment that is rewritten."""
    return Acted(task, "comment", by, roles, at, {"text": text, "replaces": replaces})


def attached(task: Task[..., Any, Any], url: str, title: str, *, by: str, at: At = None) -> Acted:
    """A link is attached."""
    return Acted(task, "attach", by, None, at, {"url": url, "text": title})


def stands_in(person: str, *roles: str, until: int = 1 << 62) -> StandIn:
    """An absence that was arranged outside of the task, for `decided(…, stands_in=[stands_in("mia", "manager")])`.

    `until`: an instant in microseconds.
    """
    return StandIn(person, roles, 0, until, "substitution 1")
