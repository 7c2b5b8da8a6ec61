"""A saga for the browser tests: a grant that people approve. What the request says decides how it goes.

mood: "" asks one manager · "two" asks two of the committee · "form" asks for several fields · "slow" escalates after a
moment · "brief" expires after a moment · "bug" has a function that raises · "no-undo" has a participant that
refuses to undo.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated

from pydantic import BaseModel, Field

from orchestrator import (
    Command,
    Done,
    Escalate,
    Event,
    Form,
    Key,
    Person,
    Refused,
    Reply,
    Role,
    Saga,
    choose,
    compute,
    fail,
    pivot,
    publish,
    step,
    task,
)
from orchestrator.participants import Participant, Work

CONTEXT = "grants"
DESK = "grants-desk"


class GrantRequested(Event, context=CONTEXT):
    """Starts the saga."""

    grant_id: Key[str]
    requester: str
    beneficiary: str
    amount: Decimal
    currency: str = "INR"
    purpose: str = ""
    mood: str = ""


class GrantChanged(Event, context=CONTEXT):
    """Changes what is asked while it is asked."""

    grant_id: Key[str]
    amount: Decimal


class GrantPaid(Event, context=CONTEXT):
    """What the saga tells at the end."""

    grant_id: Key[str]


class Reserved(Reply, context=CONTEXT):
    """Money is set aside."""

    reservation: str


class Reserve(Command[Reserved], to=DESK, context=CONTEXT):
    """Sets money aside."""

    amount: Decimal
    currency: str


class Unreserve(Command[Done], to=DESK, context=CONTEXT):
    """Gives it back."""

    reservation: str
    mood: str


class PayGrant(Command[Done], to=DESK, context=CONTEXT):
    """Pays it."""

    reservation: str
    beneficiary: str
    amount: Decimal
    currency: str


class GrantToApprove(BaseModel):
    """What the approver sees."""

    grant_id: str
    beneficiary: str
    requested_by: str
    amount: Decimal
    currency: str
    purpose: str


class Ruling(Enum):
    """How a grant may be ruled on."""

    FULL = "full_grant"
    PARTIAL = "partial_grant"
    DENY = "deny"


class RulingForm(Form[Ruling]):
    """A form of several fields."""

    rationale: Annotated[str, Field(min_length=10, max_length=500, description="At least ten characters.")]
    percentage: Annotated[int, Field(ge=1, le=100)] = 100
    charge: Decimal | None = None
    press: bool = False


class Path(Enum):
    """Who is asked."""

    ONE = "one"
    TWO = "two"
    FORM = "form"
    SLOW = "slow"


class Route(BaseModel):
    """Recorded: who is asked."""

    path: Path


def route(request: GrantRequested) -> Route:
    """Raises for the mood "bug"."""
    if request.mood == "bug":
        raise ZeroDivisionError("no route today")
    return Route(path=Path(request.mood) if request.mood in ("two", "form", "slow") else Path.ONE)


def path(route: Route) -> Path:
    """The branch."""
    return route.path


def requester(request: GrantRequested) -> list[Person]:
    """Four eyes: neither who asks nor who gains."""
    return [Person(request.requester), Person(request.beneficiary)]


def patience(request: GrantRequested) -> timedelta:
    """How long they have."""
    return timedelta(milliseconds=1) if request.mood == "brief" else timedelta(hours=2)


def shown(request: GrantRequested, changed: GrantChanged | None = None) -> GrantToApprove:
    """What the approver sees, as it was changed last."""
    return GrantToApprove(
        grant_id=request.grant_id,
        beneficiary=request.beneficiary,
        requested_by=request.requester,
        amount=changed.amount if changed else request.amount,
        currency=request.currency,
        purpose=request.purpose,
    )


@step
def reserve(request: GrantRequested) -> Reserve:
    """Money first."""
    return Reserve(amount=request.amount, currency=request.currency)


@reserve.undo
def unreserve(request: GrantRequested, reserved: Reserved) -> Unreserve:
    """And back."""
    return Unreserve(reservation=reserved.reservation, mood=request.mood)


@task(to=Role("manager"), within=patience, exclude=[requester])
def approve_grant(request: GrantRequested, changed: GrantChanged | None) -> GrantToApprove:
    """Approve the grant if the beneficiary is known to the bank."""
    return shown(request, changed)


@task(to=Role("committee"), within=timedelta(hours=2), votes=2, exclude=[requester])
def committee_approval(request: GrantRequested) -> GrantToApprove:
    """Two members of the committee have to agree."""
    return shown(request)


@task(
    to=Role("manager"),
    within=timedelta(hours=2),
    exclude=[requester],
    escalate=[Escalate(after=timedelta(seconds=4), to=Role("head"))],
)
def slow_approval(request: GrantRequested) -> GrantToApprove:
    """Somebody higher is asked after a moment."""
    return shown(request)


@task(to=Role("manager"), within=timedelta(hours=2), exclude=[requester], answer=RulingForm)
def ruling(request: GrantRequested) -> GrantToApprove:
    """Rule on the grant."""
    return shown(request)


@step
def pay_grant(request: GrantRequested, reserved: Reserved) -> PayGrant:
    """The point of no return."""
    return PayGrant(
        reservation=reserved.reservation,
        beneficiary=request.beneficiary,
        amount=request.amount,
        currency=request.currency,
    )


def grant_paid(request: GrantRequested) -> GrantPaid:
    """At the end."""
    return GrantPaid(grant_id=request.grant_id)


grant = Saga(
    "grant",
    version=1,
    starts_on=GrantRequested,
    flow=[
        reserve,
        compute(route),
        choose(path)
        .on(Path.ONE, approve_grant.on_reject(fail("rejected")).on_timeout(fail("too late")).amend_on(GrantChanged))
        .on(Path.TWO, committee_approval.on_reject(fail("rejected")).on_timeout(fail("too late")))
        .on(Path.SLOW, slow_approval.on_reject(fail("rejected")).on_timeout(fail("too late")))
        .on(
            Path.FORM,
            ruling.on(Ruling.FULL).on(Ruling.PARTIAL).on(Ruling.DENY, fail("denied")).on_timeout(fail("too late")),
        ),
        pivot(pay_grant),
        publish(grant_paid),
    ],
)

desk = Participant(DESK)


@desk.handles(Reserve)
async def on_reserve(command: Reserve, work: Work) -> Reserved:
    """Sets it aside."""
    return Reserved(reservation=work.key[-8:])


@desk.handles(Unreserve)
async def on_unreserve(command: Unreserve, work: Work) -> Done:
    """Refused in the mood "no-undo"."""
    if command.mood == "no-undo":
        raise Refused("gone", "the money is not there any more")
    return Done()


@desk.handles(PayGrant)
async def on_pay(command: PayGrant, work: Work) -> Done:
    """Pays."""
    return Done()
