"""A saga that talks about a person in every way that one can: marked, computed, refused, commented, raised.

What the request's mood says decides: "" goes through · "no" is refused by the participant with the person's name in the
reason · "raise" has a participant that fails with the address in its exception, and then answers · "bug" has a function
that raises with the person's name, until somebody types the value · "wait" waits for an event about them first.
"""

from __future__ import annotations

from datetime import timedelta

from pydantic import BaseModel

from orchestrator import (
    Command,
    Done,
    Event,
    Key,
    Person,
    Personal,
    Refused,
    Reply,
    Retry,
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

CONTEXT = "caretest"


class CareRequested(Event, context=CONTEXT):
    """Somebody asks for a visit."""

    case: Key[str]
    customer_id: Personal[str]
    name: Personal[str]
    address: Personal[str]
    story: Personal[str]
    hours: int = 2
    mood: str = ""


class CareConfirmed(Event, context=CONTEXT):
    """A relative says something."""

    case: Key[str]
    said_by: Personal[str]


class CareArranged(Event, context=CONTEXT):
    """What the saga tells."""

    case: Key[str]
    greeting: Personal[str]
    note: str


class VisitPlanned(Reply, context=CONTEXT):
    """Who opens the door."""

    visit: str
    door: Personal[str]
    remark: str


class PlanVisit(Command[VisitPlanned], context=CONTEXT, to="visits"):
    """Plan a visit."""

    case: str
    name: Personal[str]
    address: Personal[str]
    mood: str


class CancelVisit(Command[Done], context=CONTEXT, to="visits"):
    """Call it off."""

    visit: str
    door: Personal[str]


class ToApprove(BaseModel):
    """What the nurse is shown; nothing in it is marked."""

    headline: str
    hours: int
    who: str


def waits(request: CareRequested) -> bool:
    return request.mood == "wait"


class Letter(BaseModel):
    """A text that is not marked."""

    text: str


def letter(request: CareRequested) -> Letter:
    """A text of a person, made of marked fields."""
    if request.mood == "bug":
        raise ValueError(f"{request.name} has no letter")
    return Letter(text=f"Dear {request.name.split()[0].upper()}, we come to {request.address}.")


@step(retry=Retry(attempts=3, first=timedelta(milliseconds=10)))
def plan_visit(request: CareRequested) -> PlanVisit:
    return PlanVisit(case=request.case, name=request.name, address=request.address, mood=request.mood)


@plan_visit.undo
def cancel_visit(planned: VisitPlanned) -> CancelVisit:
    return CancelVisit(visit=planned.visit, door=planned.door)


def the_customer(request: CareRequested) -> Person:
    return Person(request.customer_id)


@task(to=Role("nurse"), within=timedelta(hours=1), exclude=[the_customer])
def approve(request: CareRequested, planned: VisitPlanned, letter: Letter) -> ToApprove:
    """Shall we go?"""
    headline = f"{planned.door} waits for {request.hours} hours: {letter.text}"
    return ToApprove(headline=headline, hours=request.hours, who=request.name)


def arranged(request: CareRequested, plan_visit: VisitPlanned) -> CareArranged:
    return CareArranged(case=request.case, greeting=f"Hello {request.name}", note=f"as {plan_visit.door} said")


@step
def confirm_visit(request: CareRequested) -> PlanVisit:
    return PlanVisit(case=request.case, name=request.name, address=request.address, mood="")


care = Saga(
    "care",
    version=1,
    starts_on=CareRequested,
    flow=[
        when(waits, wait_for(CareConfirmed, within=timedelta(hours=1)).on_timeout(fail("nobody said anything"))),
        compute(letter),
        plan_visit,
        approve.on_reject(fail("rejected")).on_timeout(fail("expired")),
        pivot(confirm_visit),
        publish(arranged),
    ],
)

visits = Participant("visits")


@visits.handles(PlanVisit)
async def plan(command: PlanVisit, work: Work) -> VisitPlanned:
    """Opens the door, or does not; sees plain values."""
    assert not command.name.startswith("personal:"), "a handler never sees a sealed value"
    if command.mood == "no":
        raise Refused("not_home", f"{command.name} is not at home")
    if command.mood == "raise" and work.attempt == 1:
        raise ValueError(f"cannot find {command.address}")
    return VisitPlanned(
        visit=f"V-{command.case}", door=f"Mrs {command.name.split()[-1]}", remark=f"{command.name} knows"
    )


@visits.handles(CancelVisit)
async def cancel(command: CancelVisit, work: Work) -> Done:
    """Calls it off."""
    assert not command.door.startswith("personal:")
    return Done()
