"""Waiting for events, and scopes: parts of a flow with their own interruptions and their own undo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Self, TypeVar

from orchestrator.definition.steps import Call, Step
from orchestrator.definition.tasks import OnEvent
from orchestrator.definition.words import Path, Within, Word, name_of
from orchestrator.messages import Event

E_co = TypeVar("E_co", bound=Event, covariant=True)


@dataclass(frozen=True, eq=False, kw_only=True)
class Wait(Word, Generic[E_co]):
    """Waits for an event. `early` None means that the author did not say."""

    event: type[E_co]
    within: Within
    match: Callable[..., str] | None = None
    early: bool | None = None
    since: Step[..., Any] | Call[..., Any] | None = None
    events: tuple[OnEvent, ...] = ()

    def label(self) -> str:
        return f"wait_for({name_of(self.event)})"

    def then(self, *path: Path) -> Self:
        """Follows only when the event came."""
        return self._with("then", path)

    def on_timeout(self, *path: Path) -> Self:
        """Follows when it did not come in time; unwritten, the saga turns back."""
        return self._with("on_timeout", path)

    def on_event(self, event: type[Event], *path: Path, early: bool = True) -> Self:
        """Another event ends the wait and the paths that it chose; this path follows instead (as with a scope)."""
        return replace(self, events=(*self.events, OnEvent(event=event, path=path, early=early)))


def wait_for(
    event: type[E_co],
    *,
    within: Within,
    match: Callable[..., str] | None = None,
    early: bool | None = None,
    since: Step[..., Any] | Call[..., Any] | None = None,
) -> Wait[E_co]:
    """Waits for an event whose key is this saga's business key, or the one that `match` builds with `Event.key_of(…)`.

    within: how long. early=False: only what arrives after the wait opened. since=step: only what arrives after that
    step was asked. Inside a repeat one of the two must be written: an answer to the first offer must not accept the
    second.
    """
    name = snake(name_of(event))
    return Wait(event=event, within=within, match=match, early=early, since=since, name=name)


@dataclass(frozen=True, eq=False, kw_only=True)
class Scope(Word):
    """A part of a flow. Its handlers lie outside it: a failure in a handler goes further out."""

    path: tuple[Path, ...]
    within: Within | None = None
    events: tuple[OnEvent, ...] = ()
    lowered: bool = False  # made by `.on_event` of a task or wait

    def label(self) -> str:
        if self.lowered:
            return f"{self.name.removesuffix('.scope')}.on_event(…)"
        return f"scope {self.name}" if self.name else "scope(…)"

    def on_event(self, event: type[Event], *path: Path, early: bool = True) -> Self:
        """The event ends what is inside, which undoes nothing by itself: the path says what follows.

        early=False: only an event that arrives after the entry counts. In a repeat, where all rounds share the key, an
        event that came too late for one round would otherwise interrupt the next.
        """
        return replace(self, events=(*self.events, OnEvent(event=event, path=path, early=early)))

    def on_timeout(self, *path: Path) -> Self:
        """Follows when `within` has passed before the inside was over."""
        return self._with("on_timeout", path)

    def on_failed(self, *path: Path) -> Self:
        """Follows a failure inside, after all that was done inside is undone; an empty path means: go on without it."""
        return self._with("on_failed", path)

    def then(self, *path: Path) -> Self:
        """Follows only when the inside came to its end."""
        return self._with("then", path)


def scope(*path: Path, within: Within | None = None) -> Scope:
    """A part with its own interruptions (`on_event`, `within`) and its own undo (`on_failed`).

    `scope(reserve_car).on_failed()` is an optional part: try it, take it back if it fails, go on without it.
    """
    return Scope(path=path, within=within)


def snake(name: str) -> str:
    """`CourierDelivered` → `courier_delivered`: so that a parameter may carry the name of a wait."""
    text = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)
    return text.lstrip("_")
