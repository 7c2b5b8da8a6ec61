"""Contracts and steps of a small shop, for tests of single words, and helpers that read a compiled saga."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator import Command, Done, Event, Failure, Form, Key, Person, Reply, Role, Saga, step, task
from orchestrator.definition import DefinitionError, Finding
from orchestrator.kernel.graph import Param

DAY = timedelta(days=1)


class Placed(Event):
    order_id: Key[str]
    amount: int = 0


class Phoned(Event):
    order_id: Key[str]


class Cancelled(Event):
    order_id: Key[str]


class Paid(Event):
    order_id: Key[str]


class Closed(Event):
    order_id: Key[str]


class Held(Reply):
    hold: str


class Sent(Reply):
    parcel: str


class Hold(Command[Held], to="stock"):
    order_id: str


class Free(Command[Done], to="stock"):
    hold: str


class Send(Command[Sent], to="parcels"):
    order_id: str


class Note(Command[Done], to="mail"):
    text: str


class Mood(Enum):
    GLAD = "glad"
    SAD = "sad"
    MAD = "mad"


class MoodForm(Form[Mood]):
    words: str = ""


class Shown(BaseModel):
    text: str = ""


class Part(BaseModel):
    number: int


class Policy(BaseModel):
    limit: int


@step
def hold(placed: Placed) -> Hold:
    return Hold(order_id=placed.order_id)


@hold.undo
def free(held: Held) -> Free:
    return Free(hold=held.hold)


@step(undo=None)
def send(placed: Placed) -> Send:
    return Send(order_id=placed.order_id)


@step(undo=None)
def note(placed: Placed) -> Note:
    return Note(text=placed.order_id)


@task(to=Role("boss"), within=DAY)
def ask(placed: Placed) -> Shown:
    """Shall we?"""
    return Shown(text=placed.order_id)


@task(to=Role("boss"), within=DAY, answer=MoodForm)
def feel(placed: Placed) -> Shown:
    return Shown(text=placed.order_id)


def policy() -> Policy:
    return Policy(limit=5)


def is_large(placed: Placed) -> bool:
    return placed.amount > 5


def mood(placed: Placed) -> Mood:
    return Mood.GLAD


def parts(placed: Placed) -> list[Part]:
    return [Part(number=number) for number in range(placed.amount)]


def buyer(placed: Placed) -> Person:
    return Person(placed.order_id)


def closed(placed: Placed) -> Closed:
    return Closed(order_id=placed.order_id)


def closed_badly(placed: Placed, failure: Failure) -> Closed:
    return Closed(order_id=placed.order_id)


def saga(*flow: Any, **options: Any) -> Saga[Any]:
    """A saga with this flow that starts on Placed."""
    return Saga("shop", **{"version": 1, "starts_on": Placed, "flow": list(flow), **options})


def findings(*flow: Any, **options: Any) -> tuple[Finding, ...]:
    """What is wrong with such a saga."""
    with pytest.raises(DefinitionError) as raised:
        saga(*flow, **options)
    return raised.value.findings


def codes(*flow: Any, **options: Any) -> list[str]:
    """The codes of what is wrong."""
    return [finding.code for finding in findings(*flow, **options)]


def param(compiled: Saga[Any], key: str, name: str) -> Param:
    """One parameter of the function `<path>#<role>`."""
    return next(param for param in compiled.program.functions[key].params if param.name == name)


def sources(compiled: Saga[Any], key: str, name: str) -> list[str]:
    """Where its value may come from: paths, or wire names of start messages."""
    return [source.path or source.type for source in param(compiled, key, name).sources]
