# mypy: ignore-errors
"""Mistakes in specifications that mypy and pyright must refuse: an error on every line with the marker, and no other.

The first line keeps them out of `make lint`; the test takes it away before it asks the checkers.
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum

from pydantic import BaseModel

from orchestrator import Command, Done, Event, Form, Key, Reply, Role, call, end, step, task
from orchestrator import Saga as SagaOf
from orchestrator.testing import (
    APPROVE,
    arrived,
    asked,
    awaits,
    decided,
    elapsed,
    ended,
    entered,
    given,
    opened,
    published,
    replied,
    settled_done,
    settling,
    unanswered,
    unwinding,
)


class Wanted(Event):
    """Starts it."""

    id: Key[str]


class Held(Reply):
    """A reply."""

    hold: str


class Moved(Reply):
    """Another reply."""

    reference: str


class Hold(Command[Held], to="bank"):
    """A command with a reply."""

    id: str


class Ping(Command[Done], to="bank"):
    """A command with the plain yes."""

    id: str


class Begin(Command[Moved]):
    """Starts the child."""

    id: Key[str]


class Colour(Enum):
    """Outcomes of a form."""

    RED = "red"


class Size(Enum):
    """Outcomes of another form."""

    LARGE = "large"


class Painting(Form[Colour]):
    """A form."""


class Shown(BaseModel):
    """What people see."""


@step(undo=None)
def hold(wanted: Wanted) -> Hold:
    return Hold(id=wanted.id)


@step(undo=None)
def ping(wanted: Wanted) -> Ping:
    return Ping(id=wanted.id)


@task(to=Role("desk"), within=timedelta(hours=1))
def approve(wanted: Wanted) -> Shown:
    return Shown()


@task(to=Role("desk"), within=timedelta(hours=1), answer=Painting)
def paint(wanted: Wanted) -> Shown:
    return Shown()


def moved(begin: Begin) -> Moved:
    return Moved(reference=begin.id)


child = SagaOf("child", version=1, starts_on=Begin, flow=[end("moved", moved)])


@call(child)
def move(wanted: Wanted) -> Begin:
    return Begin(id=wanted.id)


saga = SagaOf("saga", version=1, starts_on=Wanted, flow=[hold, ping, approve, move])
START = Wanted(id="1")

# What may be written.
spec = given(saga, START, replied(hold, Held(hold="h")), replied(ping), replied(move, Moved(reference="m")))
spec.when(decided(approve, APPROVE, by="ann"), decided(paint, Colour.RED, by="ann"), elapsed(hours=1.5))
spec.when(
    decided(paint, Painting(outcome=Colour.RED), by="ann"), settled_done(hold, Held(hold="h")), settled_done(ping)
)
spec.then(asked(Hold(id="1")), asked(START), published(START), opened(approve), awaits(Wanted), ended("moved"))
spec.then(entered(Colour.RED), settling(hold), settling(move), unwinding(move))
spec.when(unanswered(move), arrived(START))

# What may not.
replied(hold, Moved(reference="m"))  # planted: the reply of another step
replied(hold)  # planted: a reply with contents is needed
replied(ping, Held(hold="h"))  # planted: the plain yes has no contents
replied(move, Held(hold="h"))  # planted: the reply of another child
replied(approve, Held(hold="h"))  # planted: a task is decided, not replied to
settled_done(hold, Moved(reference="m"))  # planted: the reply of another step
settled_done(hold)  # planted: done, but with what
decided(approve, Colour.RED, by="ann")  # planted: an outcome of another form
decided(paint, Size.LARGE, by="ann")  # planted: an outcome of another form
decided(paint, APPROVE, by="ann")  # planted: an outcome of another form
decided(approve, APPROVE)  # planted: nobody decides
decided(hold, APPROVE, by="ann")  # planted: a step is not decided
asked(Held(hold="h"))  # planted: a reply is not asked
published(Hold(id="1"))  # planted: a command is not published
arrived(Hold(id="1"))  # planted: a command does not arrive
awaits(START)  # planted: the class, not one event
opened(hold)  # planted: a step is not opened
settling(approve)  # planted: a task is not settled
unwinding(hold)  # planted: a step is not unwound
entered("red")  # planted: a state, not a text
elapsed(timedelta(hours=1))  # planted: say hours=
given(saga, Held(hold="h"))  # planted: a reply starts nothing
given(START, saga)  # planted: the saga comes first
spec.when(asked(Hold(id="1")))  # planted: an output is no input
spec.then(replied(ping))  # planted: an input is no output
