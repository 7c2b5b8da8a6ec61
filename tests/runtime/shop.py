"""Sagas for the runtime's tests: an order of three steps, one that waits, one that calls another, one with a person."""

from __future__ import annotations

from datetime import timedelta

from orchestrator import (
    Command,
    Done,
    Event,
    Key,
    Reply,
    Retry,
    Role,
    Saga,
    call,
    delay,
    end,
    fail,
    pivot,
    publish,
    repeat,
    scope,
    step,
    task,
    wait_for,
)


class OrderPlaced(Event, context="orders"):
    """Starts an order."""

    order_id: Key[str]
    amount: int = 1
    note: str = ""


class OrderDone(Event, context="orders"):
    """An order is through."""

    order_id: Key[str]


class Reserved(Reply, context="orders"):
    """Stock is held."""

    hold: str


class Reserve(Command[Reserved], to="inventory", context="orders"):
    """Hold stock."""

    order_id: str
    note: str = ""


class Release(Command[Done], to="inventory", context="orders"):
    """Give stock back."""

    hold: str


class Charged(Reply, context="orders"):
    """Money is taken."""

    receipt: str


class Charge(Command[Charged], to="payment", context="orders"):
    """Take money."""

    order_id: str
    amount: int


class Refund(Command[Done], to="payment", context="orders"):
    """Give money back."""

    receipt: str


class Ship(Command[Done], to="shipping", context="orders"):
    """Send it."""

    order_id: str


@step(retry=Retry(attempts=3, first=timedelta(milliseconds=50)), within=timedelta(seconds=1))
def reserve(order: OrderPlaced) -> Reserve:
    return Reserve(order_id=order.order_id, note=order.note)


@reserve.undo
def release(reserved: Reserved) -> Release:
    return Release(hold=reserved.hold)


@step(within=timedelta(seconds=5))
def charge(order: OrderPlaced) -> Charge:
    return Charge(order_id=order.order_id, amount=order.amount)


@charge.undo
def refund(charged: Charged) -> Refund:
    return Refund(receipt=charged.receipt)


@step(undo=None, within=timedelta(seconds=5))
def ship(order: OrderPlaced) -> Ship:
    return Ship(order_id=order.order_id)


def order_done(order: OrderPlaced) -> OrderDone:
    return OrderDone(order_id=order.order_id)


order = Saga("order", version=1, starts_on=OrderPlaced, flow=[reserve, charge, pivot(ship), publish(order_done)])


# --- waiting ----------------------------------------------------------------------------------------------------------


class ParcelSent(Event, context="parcels"):
    """Starts a delivery."""

    parcel_id: Key[str]


class ParcelArrived(Event, context="parcels"):
    """The parcel is there."""

    parcel_id: Key[str]
    by: str = ""


class Signed(Event, context="parcels"):
    """Somebody signed."""

    parcel_id: Key[str]


class Told(Command[Done], to="mail", context="parcels"):
    """Tell somebody."""

    parcel_id: str


@step(undo=None, within=timedelta(seconds=5))
def tell(parcel: ParcelSent) -> Told:
    return Told(parcel_id=parcel.parcel_id)


parcel = Saga(
    "parcel",
    version=1,
    starts_on=ParcelSent,
    flow=[wait_for(ParcelArrived, within=timedelta(hours=1)), tell, wait_for(Signed, within=timedelta(hours=1))],
)

watch = Saga(
    "watch",
    version=1,
    starts_on=ParcelSent,
    flow=[tell.named("first"), wait_for(ParcelArrived, within=timedelta(hours=1)).on_timeout(end("lost"))],
)


class RoundSent(Event, context="parcels"):
    """Starts a round that waits twice for the same kind of event."""

    parcel_id: Key[str]


twice = Saga(
    "twice",
    version=1,
    starts_on=RoundSent,
    flow=[
        wait_for(ParcelArrived, within=timedelta(hours=1)).named("one"),
        wait_for(ParcelArrived, within=timedelta(hours=1)).named("two"),
    ],
)


echo = Saga("echo", version=1, starts_on=Signed, flow=[wait_for(Signed, within=timedelta(hours=1))])


# --- children ---------------------------------------------------------------------------------------------------------


class TripBooked(Event, context="trips"):
    """Starts a trip."""

    trip_id: Key[str]
    hotel: str


class BookHotel(Command[Done], context="trips"):
    """Starts the child."""

    hotel: Key[str]


class Room(Command[Done], to="hotels", context="trips"):
    """Take a room."""

    hotel: str


class NoRoom(Command[Done], to="hotels", context="trips"):
    """Give it back."""

    hotel: str


@step(within=timedelta(seconds=5))
def take_room(booking: BookHotel) -> Room:
    return Room(hotel=booking.hotel)


@take_room.undo
def leave_room(booking: BookHotel) -> NoRoom:
    return NoRoom(hotel=booking.hotel)


hotel = Saga("hotel", version=1, starts_on=BookHotel, flow=[take_room])


@call(hotel)
def book_hotel(trip: TripBooked) -> BookHotel:
    return BookHotel(hotel=trip.hotel)


trip = Saga("trip", version=1, starts_on=TripBooked, flow=[book_hotel.on_refused(end("full"))])


# --- people and time --------------------------------------------------------------------------------------------------


class CaseOpened(Event, context="cases"):
    """Starts a case."""

    case_id: Key[str]


class Shown(Reply, context="cases"):
    """What is shown."""

    case_id: str


@task(to=Role("boss"), within=timedelta(hours=1))
def approve(case: CaseOpened) -> Shown:
    """Look at it."""
    return Shown(case_id=case.case_id)


case = Saga("case", version=1, starts_on=CaseOpened, flow=[approve.on_reject(fail("no")).on_timeout(fail("late"))])


class NapTaken(Event, context="naps"):
    """Starts a nap; again and again."""

    nap_id: Key[str]


nap = Saga("nap", version=1, starts_on=NapTaken, rerun=True, flow=[delay(timedelta(milliseconds=300))])

SAGAS = (order, parcel, watch, twice, trip, case, nap)

__all__ = ["SAGAS", "repeat", "scope"]
