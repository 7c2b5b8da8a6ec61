"""A saga for the pages of operators: a wire transfer that comes into every state. `mood` says which.

"" waits for a person · "auto" needs nobody · "wait" waits for an event · "bug" has a function that raises until the
key is in REPAIRED · "no-undo" has a participant that refuses to undo · "lost" has an outcome that nobody can know.
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
    Money,
    Person,
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

CONTEXT = "wires"
REPAIRED: set[str] = set()  # keys of wires whose function does not raise any more


class WireRequested(Event, context=CONTEXT):
    """Starts the saga."""

    wire_id: Key[str]
    customer_id: str
    requester: str
    amount: Decimal
    currency: str = "EUR"
    mood: str = ""


class WireNoted(Event, context=CONTEXT):
    """What a wire with the mood "wait" waits for."""

    wire_id: Key[str]


class WireSent(Event, context=CONTEXT):
    """The end of a good one."""

    wire_id: Key[str]
    reference: str


class Held(Reply, context=CONTEXT):
    """Money is held."""

    hold_id: str


class Hold(Command[Held], to="wires-desk", context=CONTEXT):
    """Holds money."""

    amount: Decimal
    currency: str


class Free(Command[Done], to="wires-desk", context=CONTEXT):
    """Gives it free."""

    hold_id: str
    mood: str


class Sent(Reply, context=CONTEXT):
    """The wire is out."""

    reference: str


class Send(Command[Sent], to="wires-desk", context=CONTEXT):
    """Sends it, outside."""

    hold_id: str
    mood: str


class Rules(BaseModel):
    """The rules in force."""

    limit: Decimal


class WireToApprove(BaseModel):
    """What the manager sees."""

    customer_id: str
    amount: Decimal
    currency: str


def rules(request: WireRequested) -> Rules:
    """Raises for the mood "bug"."""
    if request.mood == "bug" and request.wire_id not in REPAIRED:
        raise ZeroDivisionError("no rules for this country today")
    return Rules(limit=Decimal(1000))


def requester(request: WireRequested) -> Person:
    """Four eyes."""
    return Person(request.requester)


def waits(request: WireRequested) -> bool:
    """Whether it waits for an event first."""
    return request.mood == "wait"


def needs_approval(request: WireRequested) -> bool:
    """Whether a person is asked."""
    return request.mood not in ("auto", "lost")


@step
def hold(request: WireRequested) -> Hold:
    """Money first."""
    return Hold(amount=request.amount, currency=request.currency)


@hold.undo(retry=Retry(attempts=1))
def free(request: WireRequested, held: Held) -> Free:
    """And back."""
    return Free(hold_id=held.hold_id, mood=request.mood)


def amount(shown: WireToApprove) -> Money:
    """What a second look is asked for by."""
    return Money(shown.amount, shown.currency)


@task(
    to=Role("manager"), within=timedelta(hours=24), exclude=[requester], amount=amount, confirm=Money("2000000", "EUR")
)
def approve(request: WireRequested, rules: Rules) -> WireToApprove:
    """Approve the wire if you know the customer."""
    return WireToApprove(customer_id=request.customer_id, amount=request.amount, currency=request.currency)


@step(retry=Retry(attempts=1), within=timedelta(seconds=2))
def send(request: WireRequested, held: Held) -> Send:
    """The point of no return."""
    return Send(hold_id=held.hold_id, mood=request.mood)


def wire_sent(request: WireRequested, sent: Sent) -> WireSent:
    """At the end."""
    return WireSent(wire_id=request.wire_id, reference=sent.reference)


wire = Saga(
    "wire",
    version=1,
    starts_on=WireRequested,
    flow=[
        hold,
        compute(rules),
        when(waits, wait_for(WireNoted, within=timedelta(hours=1)).on_timeout(fail("never noted"))),
        when(needs_approval, approve.on_reject(fail("rejected")).on_timeout(fail("nobody approved in time"))),
        pivot(send),
        publish(wire_sent),
    ],
)

wires_desk = Participant("wires-desk")


@wires_desk.handles(Hold)
async def on_hold(command: Hold, work: Work) -> Held:
    """Holds."""
    return Held(hold_id=work.key[-8:])


@wires_desk.handles(Free)
async def on_free(command: Free, work: Work) -> Done:
    """Refused in the mood "no-undo"."""
    if command.mood == "no-undo":
        raise Refused("gone", "the hold is not there any more")
    return Done()


@wires_desk.handles(
    Send, idempotent_for=timedelta(milliseconds=150), lease=timedelta(milliseconds=100), settling=timedelta(0)
)
async def on_send(command: Send, work: Work) -> Sent:
    """The line breaks in the mood "lost": nobody knows whether it went out."""
    if command.mood == "lost":
        raise ConnectionError("the line broke while sending")
    return Sent(reference=f"W-{work.key[-6:]}")
