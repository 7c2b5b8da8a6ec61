"""What the random flows say to each other."""

from __future__ import annotations

from enum import Enum

from orchestrator import Command, Done, Event, Form, Key, Reply


class Go(Event):
    """Starts the random saga."""

    id: Key[str]
    size: int = 3


class Call(Command[Done]):
    """Starts the random child."""

    id: Key[str]


class PivotCall(Command[Done]):
    """Starts the random child that has a pivot."""

    id: Key[str]


class Nudge(Event):
    """An event that scopes and waits want."""

    id: Key[str]


class Poke(Event):
    """Another one."""

    id: Key[str]


class Prod(Event):
    """Another one."""

    id: Key[str]


class Push(Event):
    """Another one."""

    id: Key[str]


class Ended(Event):
    """What the saga publishes."""

    id: Key[str]


class Fresh(Event):
    """What amends a task."""

    id: Key[str]


class Worked(Reply):
    """The reply of every step: `note` is "@" and the activity that it answers."""

    note: str = ""


class Work(Command[Worked], to="worker"):
    """What every step asks."""

    what: str


class Unwork(Command[Done], to="worker"):
    """What every undo asks."""

    what: str


class Shown(Reply):
    """What a task shows."""

    text: str


class Colour(Enum):
    """What may be chosen."""

    RED = "red"
    GREEN = "green"
    BLUE = "blue"


class Choice(Form[Colour]):
    """A decision that is neither yes nor no."""
