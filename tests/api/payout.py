"""A saga for the tests of the API: a payout that needs an approval. What the request says decides how it goes.

mood: "" pays · "brief" gives the approver almost no time · "wait" waits for an event first · "bug"
has a function that raises · "no-undo" has a participant that refuses to undo.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from pydantic import BaseModel

from orchestrator import (
    Command,
    Done,
    Event,
    Key,
    Person,
    Refused,
    Reply,
    Role,
    Saga,
    compute,
    fail,
    pivot,
    publish,
    step,
    task,
    wait_for,
    when,
)
from orchestrator.participants import Participant, Work

CONTEXT = "apitest"


class PayoutRequested(Event, context=CONTEXT):
    """Starts the saga."""

    payout_id: Key[str]
    requester: str
    amount: Decimal
    mood: str = ""


class PayoutNoted(Event, context=CONTEXT):
    """What a saga with the mood "wait" waits for."""

    payout_id: Key[str]


class PayoutPaid(Event, context=CONTEXT):
    """What the saga tells; nobody else may say so in its name."""

    payout_id: Key[str]


class Reserved(Reply, context=CONTEXT):
    """Money is set aside."""

    token: str


class Reserve(Command[Reserved], to="apitest-desk", context=CONTEXT):
    """Sets money aside."""

    amount: Decimal


class Unreserve(Command[Done], to="apitest-desk", context=CONTEXT):
    """Gives it back."""

    token: str
    mood: str


class Pay(Command[Done], to="apitest-desk", context=CONTEXT):
    """Pays it."""

    token: str


class Rules(BaseModel):
    """The rules in force."""

    limit: Decimal


class PayoutToApprove(BaseModel):
    """What the manager sees."""

    amount: Decimal


def rules(request: PayoutRequested) -> Rules:
    """Raises for the mood "bug"."""
    if request.mood == "bug":
        raise ZeroDivisionError("no rules today")
    return Rules(limit=Decimal(1000))


def requester(request: PayoutRequested) -> Person:
    """Four eyes: never the one who asks."""
    return Person(request.requester)


def patience(request: PayoutRequested) -> timedelta:
    """How long the manager has."""
    return {"brief": timedelta(milliseconds=1), "soon": timedelta(seconds=1)}.get(request.mood, timedelta(hours=1))


def waits(request: PayoutRequested) -> bool:
    """Whether it waits for an event first."""
    return request.mood == "wait"


@step
def reserve(request: PayoutRequested) -> Reserve:
    """Money first."""
    return Reserve(amount=request.amount)


@reserve.undo
def unreserve(request: PayoutRequested, reserved: Reserved) -> Unreserve:
    """And back."""
    return Unreserve(token=reserved.token, mood=request.mood)


@task(to=Role("manager"), within=patience, exclude=[requester])
def approve(request: PayoutRequested, rules: Rules) -> PayoutToApprove:
    """Approve the payout if you know the requester."""
    return PayoutToApprove(amount=request.amount)


@step
def pay(reserved: Reserved) -> Pay:
    """The point of no return."""
    return Pay(token=reserved.token)


def payout_paid(request: PayoutRequested) -> PayoutPaid:
    """At the end."""
    return PayoutPaid(payout_id=request.payout_id)


payout = Saga(
    "payout",
    version=1,
    starts_on=PayoutRequested,
    flow=[
        reserve,
        compute(rules),
        when(waits, wait_for(PayoutNoted, within=timedelta(hours=1)).on_timeout(fail("never noted"))),
        approve.on_reject(fail("rejected")).on_timeout(fail("too late")),
        pivot(pay),
        publish(payout_paid),
    ],
)

desk = Participant("apitest-desk")


@desk.handles(Reserve)
async def on_reserve(command: Reserve, work: Work) -> Reserved:
    """Large amounts are refused."""
    if command.amount > 1_000_000:
        raise Refused("too_much")
    return Reserved(token=work.key[:8])


@desk.handles(Unreserve)
async def on_unreserve(command: Unreserve, work: Work) -> Done:
    """Refused in the mood "no-undo"."""
    if command.mood == "no-undo":
        raise Refused("gone", "the money is not there any more")
    return Done()


@desk.handles(Pay)
async def on_pay(command: Pay, work: Work) -> Done:
    """Pays."""
    return Done()
