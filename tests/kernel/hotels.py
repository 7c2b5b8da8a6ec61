"""Child sagas for the kernel's specifications: a hotel that books, one that takes money, and one that only waits."""

from __future__ import annotations

from datetime import timedelta

from orchestrator import Command, Done, Event, Key, Reply, Saga, call, end, pivot, step, wait_for
from orchestrator.testing import replied
from tests.kernel.trips import Charge, Charged, FreeRoom, HoldRoom, Note, Noted, RoomHeld, TripWanted


class Booked(Reply):
    """What the child gives."""

    room: str


class BookHotel(Command[Booked]):
    """Starts the child."""

    booking: Key[str]


@step
def child_room(book: BookHotel) -> HoldRoom:
    return HoldRoom(trip=book.booking)


@child_room.undo
def child_free(held: RoomHeld) -> FreeRoom:
    return FreeRoom(room=held.room)


@step(undo=None)
def child_note(book: BookHotel) -> Note:
    return Note(trip=book.booking)


def booked(held: RoomHeld) -> Booked:
    return Booked(room=held.room)


HOTEL = Saga("hotel", version=1, starts_on=BookHotel, flow=[child_room, child_note, end("booked", booked)])


@call(HOTEL)
def book_hotel(wanted: TripWanted) -> BookHotel:
    return BookHotel(booking=f"{wanted.trip}/hotel")


BOOK = BookHotel(booking="t-1/hotel")
HOLD = HoldRoom(trip="t-1/hotel")
HELD = replied(child_room, RoomHeld(room="R"))
CHILD_NOTED = replied(child_note, Noted())


class TellHotel(Command[Done]):
    """Starts a child that gives nothing back."""

    telling: Key[str]


class HotelSaidYes(Event):
    """What the slow hotel waits for."""

    telling: Key[str]


SLOW = Saga("hotel_slow", version=1, starts_on=TellHotel, flow=[wait_for(HotelSaidYes, within=timedelta(days=9))])


@call(SLOW, within=timedelta(hours=1))
def tell_slow(wanted: TripWanted) -> TellHotel:
    return TellHotel(telling="b")


class Plan(Command[Done]):
    """Starts a saga that books a hotel itself."""

    plan: Key[str]


@call(HOTEL)
def plan_hotel(plan: Plan) -> BookHotel:
    return BookHotel(booking=plan.plan)


PLANNING = Saga("planning", version=1, starts_on=Plan, flow=[plan_hotel])


@call(PLANNING)
def make_plan(wanted: TripWanted) -> Plan:
    return Plan(plan="deep")


class Paid(Reply):
    """What the paying child gives."""

    receipt: str


class PayHotel(Command[Paid]):
    """Starts the paying child."""

    payment: Key[str]


@step
def child_charge(pay: PayHotel) -> Charge:
    return Charge(trip=pay.payment)


@step
def pay_room(pay: PayHotel) -> HoldRoom:
    return HoldRoom(trip=pay.payment)


@pay_room.undo
def pay_free(held: RoomHeld) -> FreeRoom:
    return FreeRoom(room=held.room)


@step(undo=None)
def child_receipt(pay: PayHotel) -> Note:
    return Note(trip=pay.payment)


def paid(charged: Charged) -> Paid:
    return Paid(receipt=charged.receipt)


PAYING = Saga(
    "paying", version=1, starts_on=PayHotel, flow=[pay_room, pivot(child_charge), child_receipt, end("paid", paid)]
)


@call(PAYING)
def pay_hotel(wanted: TripWanted) -> PayHotel:
    return PayHotel(payment="p")
