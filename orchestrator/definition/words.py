"""The words of a flow: what all have in common, and the small ones.

Rules of this file
- A word is an immutable value. Every method returns a copy, so one task can stand in two sagas, or in two versions of
  one, with other paths. Words know nothing of graphs; `layout` gives them their paths.
- A path is a word, several words, or a list of them. An empty one means *go on*.
- Types say what a checker can know; everything else is found when the saga is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Self, TypeAlias

from orchestrator.calendars import calendar
from orchestrator.definition.place import Place, here
from orchestrator.messages import Context, Event, Reply

Within: TypeAlias = "timedelta | WorkingTime | Callable[..., timedelta] | Callable[..., datetime]"
Path: TypeAlias = "Word | Sequence[Path]"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingTime:
    """So much working time of a business calendar: `WorkingTime(hours=8, calendar="IN-Mumbai")`.

    The calendars are those of `orchestrator.calendars`, where a saga package registers its own.
    Worked out when the clock starts, and recorded: a calendar that changes later moves nothing that was promised.
    """

    hours: float = 0
    minutes: float = 0
    calendar: str

    @property
    def time(self) -> timedelta:
        """How long, as a duration of open hours."""
        return timedelta(hours=self.hours, minutes=self.minutes)

    def __str__(self) -> str:
        return f"{self.time} working time of {self.calendar}"

    def ends(self, now: Context) -> datetime:
        """When it is over, counted from the moment of the turn. Raises CalendarError for an unknown calendar."""
        return calendar(self.calendar).add(now.now, self.time)


CONSTANT = (timedelta, WorkingTime)


def name_of(function: object) -> str:
    """The name of a function, class or word, as its author wrote it."""
    return str(getattr(function, "__name__", None) or getattr(function, "name", None) or repr(function))


@dataclass(frozen=True, eq=False, kw_only=True)
class Block:
    """One path that an author wrote: `key` is the block's name in the graph."""

    key: str
    path: tuple[Path, ...]
    place: Place = field(default_factory=here)


@dataclass(frozen=True, eq=False, kw_only=True)
class Word:
    """What every word has: a name (empty: derived from what it does), the author's line, and the written paths."""

    name: str = ""
    place: Place = field(default_factory=here)
    blocks: tuple[Block, ...] = ()

    def named(self, name: str) -> Self:
        """A copy with this name: needed where one thing stands twice on a path."""
        return replace(self, name=name)

    def label(self) -> str:
        """How messages call it."""
        return f"{type(self).__name__.lower()} {self.name}".strip()

    def _with(self, key: str, path: tuple[Path, ...]) -> Self:
        return replace(self, blocks=(*self.blocks, Block(key=key, path=path)))


@dataclass(frozen=True, eq=False, kw_only=True)
class Compute(Word):
    """A pure derivation, recorded once."""

    function: Callable[..., object]

    def label(self) -> str:
        return f"compute({name_of(self.function)})"


def compute(function: Callable[..., object]) -> Compute:
    """Derives a value from what is known and records it once; injected by its return type.

    >>> compute(approval_policy)                                                            # doctest: +SKIP
    """
    return Compute(function=function, name=name_of(function))


@dataclass(frozen=True, eq=False, kw_only=True)
class Publish(Word):
    """A domain event goes out."""

    function: Callable[..., Event]

    def label(self) -> str:
        return f"publish({name_of(self.function)})"


def publish(function: Callable[..., Event]) -> Publish:
    """Publishes the event that the function returns, through the outbox."""
    return Publish(function=function, name=name_of(function))


@dataclass(frozen=True, eq=False, kw_only=True)
class Enter(Word):
    """The business life cycle moves on."""

    state: Enum

    def label(self) -> str:
        return f"enter({type(self.state).__name__}.{getattr(self.state, 'name', self.state)})"


def enter(state: Enum) -> Enter:
    """Enters a state of the business life cycle; `Saga(states=…)` says which transitions are allowed."""
    return Enter(state=state, name=f"enter.{text_of(state)}")


@dataclass(frozen=True, eq=False, kw_only=True)
class End(Word):
    """The saga ends here."""

    outcome: str
    result: Callable[..., Reply] | None = None

    def label(self) -> str:
        return f'end("{self.outcome}")'


def end(outcome: str = "completed", result: Callable[..., Reply] | None = None) -> End:
    """Ends the saga with this outcome; a child's `result` builds the reply that its parent gets."""
    return End(outcome=outcome, result=result, name="end")


@dataclass(frozen=True, eq=False, kw_only=True)
class Fail(Word):
    """Turns to compensation."""

    reason: str = ""
    function: Callable[..., str] | None = None

    def label(self) -> str:
        return f"fail({name_of(self.function)})" if self.function else f'fail("{self.reason}")'


def fail(reason: str | Callable[..., str]) -> Fail:
    """Turns back: to the innermost `scope(…).on_failed`, else the whole saga. The reason is a text or a function."""
    if isinstance(reason, str):
        return Fail(reason=reason, name="fail")
    return Fail(function=reason, name="fail")


@dataclass(frozen=True, eq=False, kw_only=True)
class Leave(Word):
    """Leaves the innermost repeat."""

    def label(self) -> str:
        return "leave()"


def leave() -> Leave:
    """Leaves the innermost `repeat`; what follows the repeat goes on with this round's results."""
    return Leave(name="leave")


@dataclass(frozen=True, eq=False, kw_only=True)
class Keep(Word):
    """A point of no return of a scope or item."""

    def label(self) -> str:
        return "keep()"


def keep() -> Keep:
    """What the innermost scope or item has done so far stays: it is not undone any more, whatever happens later."""
    return Keep(name="keep")


@dataclass(frozen=True, eq=False, kw_only=True)
class Delay(Word):
    """A durable pause."""

    within: Within

    def label(self) -> str:
        return f"delay({self.within if isinstance(self.within, CONSTANT) else name_of(self.within)})"


def delay(within: Within) -> Delay:
    """Waits for this long, or until the instant that the function returns; survives restarts and deploys."""
    return Delay(within=within, name="delay" if isinstance(within, CONSTANT) else name_of(within))


def text_of(value: Any) -> str:
    """The label of a value that is chosen or decided: `true`, an enum's value, a literal."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value.value) if isinstance(value, Enum) else str(value)
