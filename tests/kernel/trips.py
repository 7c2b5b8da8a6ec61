"""The small vocabulary that the kernel's specifications are written in: reservations that can be undone, a charge that
cannot, people and events. Each test declares its own saga of these parts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from pydantic import BaseModel

from orchestrator import Command, Done, Event, Failure, Key, Person, Reply, Retry, Role, publish, step, task
from orchestrator.kernel.records import Record
from orchestrator.testing import Spec, replied

ONCE = Retry(attempts=1)


class TripWanted(Event):
    """Starts every saga of these tests."""

    trip: Key[str]
    stops: int = 0
    quick: bool = False


class TripChanged(Event):
    """The customer changed something."""

    trip: Key[str]
    note: str = ""


class TripWithdrawn(Event):
    """The customer does not want it any more."""

    trip: Key[str]


class TripFailed(Event):
    """Published on failure paths."""

    trip: Key[str]
    reason: str


class TripBooked(Event):
    """Published when all went well."""

    trip: Key[str]


class RoomHeld(Reply):
    """A room is reserved."""

    room: str


class HoldRoom(Command[RoomHeld], to="hotel"):
    """Reserve a room."""

    trip: str


class FreeRoom(Command[Done], to="hotel"):
    """Take the reservation back."""

    room: str


class CarHeld(Reply):
    """A car is reserved."""

    car: str


class HoldCar(Command[CarHeld], to="cars"):
    """Reserve a car."""

    trip: str


class FreeCar(Command[Done], to="cars"):
    """Take the reservation back."""

    car: str


class SeatHeld(Reply):
    """A seat is reserved."""

    seat: str


class HoldSeat(Command[SeatHeld], to="airline"):
    """Reserve a seat."""

    trip: str


class FreeSeat(Command[Done], to="airline"):
    """Take the reservation back."""

    seat: str


class Charged(Reply):
    """The money has moved."""

    receipt: str


class Charge(Command[Charged], to="bank"):
    """Take the money: the point of no return."""

    trip: str


class Noted(Reply):
    """Somebody was told."""

    note: str = ""


class Note(Command[Noted], to="desk"):
    """Tell the desk: nothing to undo."""

    trip: str


class Rated(Reply):
    """A score, of no effect at all."""

    score: int


class Rate(Command[Rated], to="desk"):
    """Ask for a score."""

    trip: str


class TicketSent(Reply):
    """The ticket is on its way."""

    ticket: str


class SendTicket(Command[TicketSent], to="airline"):
    """After the pivot: done in the end."""

    trip: str


class TripToApprove(BaseModel):
    """What the desk sees."""

    trip: str
    note: str = ""


@step
def hold_room(wanted: TripWanted) -> HoldRoom:
    return HoldRoom(trip=wanted.trip)


@hold_room.undo
def free_room(held: RoomHeld) -> FreeRoom:
    return FreeRoom(room=held.room)


@step
def hold_car(wanted: TripWanted) -> HoldCar:
    return HoldCar(trip=wanted.trip)


@hold_car.undo
def free_car(held: CarHeld) -> FreeCar:
    return FreeCar(car=held.car)


@step
def hold_seat(wanted: TripWanted) -> HoldSeat:
    return HoldSeat(trip=wanted.trip)


@hold_seat.undo
def free_seat(held: SeatHeld) -> FreeSeat:
    return FreeSeat(seat=held.seat)


@step
def charge(wanted: TripWanted) -> Charge:
    return Charge(trip=wanted.trip)


@step(undo=None)
def note(wanted: TripWanted) -> Note:
    return Note(trip=wanted.trip)


@step(reads=True)
def rate(wanted: TripWanted) -> Rate:
    return Rate(trip=wanted.trip)


@step(undo=None)
def send_ticket(wanted: TripWanted) -> SendTicket:
    return SendTicket(trip=wanted.trip)


@task(to=Role("desk"), within=timedelta(hours=24))
def approve(wanted: TripWanted) -> TripToApprove:
    """Approve the trip."""
    return TripToApprove(trip=wanted.trip)


def customer(wanted: TripWanted) -> Person:
    return Person(f"customer of {wanted.trip}")


def trip_failed(wanted: TripWanted, failure: Failure) -> TripFailed:
    return TripFailed(trip=wanted.trip, reason=f"{failure.kind}: {failure.reason}")


def trip_booked(wanted: TripWanted) -> TripBooked:
    return TripBooked(trip=wanted.trip)


telling_failure = publish(trip_failed)
telling_success = publish(trip_booked)

WANTED = TripWanted(trip="t-1")
ROOM = replied(hold_room, RoomHeld(room="R"))
CAR = replied(hold_car, CarHeld(car="C"))
SEAT = replied(hold_seat, SeatHeld(seat="S"))
CHARGED = replied(charge, Charged(receipt="B"))
NOTED = replied(note, Noted())
TICKET = replied(send_ticket, TicketSent(ticket="T"))

HOLD_ROOM, HOLD_CAR, HOLD_SEAT = HoldRoom(trip="t-1"), HoldCar(trip="t-1"), HoldSeat(trip="t-1")
FREE_ROOM, FREE_CAR, FREE_SEAT = FreeRoom(room="R"), FreeCar(car="C"), FreeSeat(seat="S")
CHARGE, NOTE, SEND_TICKET = Charge(trip="t-1"), Note(trip="t-1"), SendTicket(trip="t-1")


def types(spec: Spec) -> list[str]:
    """The types of all records, in order."""
    return [record.type for record in spec.records]


def of(spec: Spec, type_: str) -> list[Record]:
    """All records of a type."""
    return [record for record in spec.records if record.type == type_]


def keys(spec: Spec, kind: str) -> list[str]:
    """The idempotency keys of all messages of a kind (do, undo, fence), in order."""
    return [sent.attributes["idempotencykey"] for sent in spec.sent if sent.kind == kind]


def undone_in(spec: Spec) -> Sequence[str]:
    """Activities in the order in which their undo was asked, each once."""
    return list(dict.fromkeys(record.activity for record in of(spec, "undo.requested")))
