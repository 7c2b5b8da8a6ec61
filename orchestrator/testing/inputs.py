"""Inputs: what people decide, the world tells, and time brings. What participants answer is in `answers.py`.

Rules of this file
- A vote and an operator's act carry what a person would see now, unless the specification says otherwise.
- Types tie an outcome to its task: an outcome of another form is refused by the type checkers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, Literal, TypeVar

from orchestrator.definition.tasks import Task
from orchestrator.definition.words import text_of
from orchestrator.kernel.inputs import Arrived, Cancel, Operate, Refusal, StandIn, Vote
from orchestrator.kernel.operators import proposal_for
from orchestrator.kernel.state import Activity
from orchestrator.messages import Command, Contract, Event, Form, Verdict
from orchestrator.testing.answers import anything
from orchestrator.testing.known import At, Place
from orchestrator.testing.places import find, runs, stuck_place
from orchestrator.testing.world import Actor, World

O = TypeVar("O", bound=Enum)  # noqa: E741 - outcome

APPROVE = Verdict.APPROVE
REJECT = Verdict.REJECT


@dataclass(frozen=True, slots=True)
class Decided:
    """One person's vote on an open task."""

    task: Task[..., Any, Any]
    answer: Any
    by: str
    reason: str
    roles: tuple[str, ...] | None
    on_behalf_of: str
    seen: str | None
    at: At
    stands_in: tuple[StandIn, ...] = ()

    def give(self, world: World) -> Refusal | None:
        """Votes, with the hash of what is shown and the roles that the task asks for, unless said otherwise."""
        some_open = any(_is_open(found) for _, _, found in runs(world, self.task, self.at))
        actor, key = find(world, self.task, self.at, _is_open if some_open else anything, "is open")
        row = actor.tasks.get(key)
        found = actor.now_state.activities[key]
        shown = row.data["hash"] if row else found.task.hash if found.task else ""
        wanted = tuple(entry["role"] for entry in (row.data["to"] if row else ()) if "role" in entry)
        vote = Vote(
            key,
            self.by,
            wanted if self.roles is None else self.roles,
            self._form(),
            shown if self.seen is None else self.seen,
            world.clock + 1,
            self.reason,
            self.on_behalf_of,
            stands_in=self.stands_in,
        )
        return world.give(actor, vote)

    def _form(self) -> Any:
        if isinstance(self.answer, Contract):
            return self.answer.plain()
        form = {"outcome": text_of(self.answer)}
        return {**form, "reason": self.reason} if self.reason and isinstance(self.answer, Verdict) else form


def _is_open(found: Activity) -> bool:
    return found.status == "open"


def decided(
    task: Task[..., Any, O],
    answer: O | Form[O],
    *,
    by: str,
    reason: str = "",
    roles: tuple[str, ...] | None = None,
    on_behalf_of: str = "",
    seen: str | None = None,
    stands_in: Sequence[StandIn] = (),
    at: At = None,
) -> Decided:
    """A person decides. `answer`: an outcome, or the whole form. `roles`: those of the person, the task's unless said.
    `seen`: the hash of what the person saw, the current one unless said. `stands_in`: for whom they stand in."""
    return Decided(task, answer, by, reason, roles, on_behalf_of, seen, at, tuple(stands_in))


@dataclass(frozen=True, slots=True)
class EventArrived:
    """A domain event."""

    event: Event
    ago: timedelta
    id: str | None

    def give(self, world: World) -> Refusal | None:
        """Every saga that waits for it gets it; otherwise it is kept as early."""
        world.clock += 1
        arrived_at = world.clock - int(self.ago.total_seconds() * 1_000_000)
        identity = self.id or f"event-{len(world.early) + 1}"
        world.tell(Arrived(self.event.wire_name, self.event.key(), self.event.plain(), identity, arrived_at))
        return None


def arrived(event: Event, *, ago: timedelta = timedelta(0), id: str | None = None) -> EventArrived:
    """A domain event arrives. `ago`: it reached the broker so long before it is handled."""
    return EventArrived(event, ago, id)


@dataclass(frozen=True, slots=True)
class Elapsed:
    """Time passes."""

    time: timedelta

    def give(self, world: World) -> Refusal | None:
        """Fires every timer on the way, in order."""
        world.pass_time(world.clock + int(self.time.total_seconds() * 1_000_000))
        return None


def elapsed(*, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> Elapsed:
    """Time passes; what comes due on the way happens, in order."""
    return Elapsed(timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds))


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody asks the saga to turn back."""

    by: str
    reason: str

    def give(self, world: World) -> Refusal | None:
        """Asks the saga that is specified."""
        return world.give(world.main, Cancel(self.by, self.reason))


def cancelled(by: str, reason: str) -> Cancelled:
    """A person or a service asks the saga to turn back."""
    return Cancelled(by, reason)


Act = Literal["retry", "value", "done", "not_done", "skip", "take_over", "give_back", "settle"]


@dataclass(frozen=True, slots=True)
class Operated:
    """An operator's act on a stuck place."""

    act: Act
    place: Place
    by: str
    reason: str
    data: Any
    outcome: str
    version: int | None
    at: At

    def give(self, world: World) -> Refusal | None:
        """Acts on the place as it is now, unless an older version is said."""
        actor, place = stuck_place(world, self.place, self.at)
        data = self.data.plain() if isinstance(self.data, Contract) else self.data
        version = self.version if self.version is not None else _answers(actor, place)
        return world.give(actor, Operate(self.act, place, version, self.by, self.reason, data, self.outcome))


def _answers(actor: Actor, place: str) -> int:
    state = actor.now_state
    if first := proposal_for(state, place):
        return int(first["version"])
    found = state.activities.get(place[1:])
    if found is not None and found.undo is not None and found.undo.status == "handed":
        return found.undo.taken_at
    if found is not None and found.proposal and place[0] in "?~":
        return int(found.proposal["version"])
    return state.stuck[place].version


def operated(
    act: Act,
    place: Place,
    *,
    by: str = "operator",
    reason: str = "looked into it",
    data: Any = None,
    outcome: str = "",
    version: int | None = None,
    at: At = None,
) -> Operated:
    """An operator acts on a stuck place, named by its word or by its sign and id (`"~hold_funds"`).

    data: a reply or a value typed by hand. outcome: done or not_done, for settle. version: of the stuck record that is
    answered; the current one unless said.
    """
    return Operated(act, place, by, reason, data, outcome, version, at)


@dataclass(frozen=True, slots=True)
class Started:
    """The start message comes (again)."""

    message: Any

    def give(self, world: World) -> Refusal | None:
        """Starts the saga, or is a duplicate."""
        return world.start_main(self.message)


def started(message: Event | Command[Any]) -> Started:
    """The start message comes: needed only to let it come a second time."""
    return Started(message)
