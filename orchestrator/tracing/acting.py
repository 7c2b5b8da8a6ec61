"""Which sagas a request moved: noted while it is served, by whoever submits the act, for the span of the request.

A context variable and no argument: routes of saga packages submit acts too, and need not know of it.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Moved:
    """The first record that an act wrote."""

    saga_id: str
    version: int
    activity: str


MOVED: ContextVar[list[Moved] | None] = ContextVar("orchestrator_moved", default=None)


def note_moved(saga_id: str, version: int, activity: str) -> None:
    """Notes for the request that is served now, if there is one."""
    found = MOVED.get()
    if found is not None:
        found.append(Moved(saga_id, version, activity))
