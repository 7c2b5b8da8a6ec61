"""Sagas that the corpus of malformed messages is sent to: purchases that go through, and sagas that wait for ever.

`purchase` is what others keep doing meanwhile. `enquiry` and `journey` ask a participant that is nowhere, so there is
something that replies and answers of all wrong kinds can be about.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from orchestrator import Command, Done, Event, Key, Reply, Saga, call, pivot, publish, step, wait_for
from orchestrator.participants import Participant, Work

HOUR = timedelta(hours=1)


class PurchaseMade(Event, context="market"):
    """Starts a purchase."""

    purchase_id: Key[str]
    amount: Decimal = Decimal(1)
    count: int = 1
    note: str = ""


class PurchaseDone(Event, context="market"):
    """What a purchase publishes; nobody here waits for it."""

    purchase_id: Key[str]


class Packed(Reply, context="market"):
    """The goods are packed."""

    parcel: str


class Pack(Command[Packed], to="packers", context="market"):
    """Pack them."""

    purchase_id: str


class Bill(Command[Done], to="billers", context="market"):
    """Send the bill."""

    purchase_id: str
    amount: Decimal


@step(undo=None, within=HOUR)
def pack(made: PurchaseMade) -> Pack:
    return Pack(purchase_id=made.purchase_id)


@step(undo=None, within=HOUR)
def bill(made: PurchaseMade) -> Bill:
    return Bill(purchase_id=made.purchase_id, amount=made.amount)


def purchase_done(made: PurchaseMade) -> PurchaseDone:
    return PurchaseDone(purchase_id=made.purchase_id)


purchase = Saga("purchase", version=1, starts_on=PurchaseMade, flow=[pack, pivot(bill), publish(purchase_done)])


# --- sagas that wait --------------------------------------------------------------------------------------------------


class EnquiryMade(Event, context="market"):
    """Starts an enquiry."""

    enquiry_id: Key[str]


class Answered(Reply, context="market"):
    """What was found out."""

    text: str


class Ask(Command[Answered], to="oracles", context="market"):
    """Find something out."""

    enquiry_id: str


class NewsCame(Event, context="market"):
    """What an enquiry hopes for in the end."""

    enquiry_id: Key[str]


@step(undo=None, within=HOUR)
def ask(made: EnquiryMade) -> Ask:
    return Ask(enquiry_id=made.enquiry_id)


enquiry = Saga("enquiry", version=1, starts_on=EnquiryMade, flow=[ask, wait_for(NewsCame, within=HOUR)])


class JourneyBegun(Event, context="market"):
    """Starts a journey."""

    journey_id: Key[str]


class BeginLeg(Command[Done], context="market"):
    """Starts the child."""

    leg_id: Key[str]


class Drive(Command[Done], to="drivers", context="market"):
    """Drive."""

    leg_id: str


@step(undo=None, within=HOUR)
def drive(leg: BeginLeg) -> Drive:
    return Drive(leg_id=leg.leg_id)


leg = Saga("leg", version=1, starts_on=BeginLeg, flow=[drive])


@call(leg)
def first_leg(begun: JourneyBegun) -> BeginLeg:
    return BeginLeg(leg_id=f"{begun.journey_id}/1")


journey = Saga("journey", version=1, starts_on=JourneyBegun, flow=[first_leg])

SAGAS = (purchase, enquiry, journey)


# --- who obeys --------------------------------------------------------------------------------------------------------

packers = Participant("packers")
billers = Participant("billers")


@packers.handles(Pack)
async def handle_pack(command: Pack, work: Work) -> Packed:
    return Packed(parcel=f"parcel-{command.purchase_id}")


@billers.handles(Bill)
async def handle_bill(command: Bill, work: Work) -> Done:
    return Done()


PARTICIPANTS = (packers, billers)
