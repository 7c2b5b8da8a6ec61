"""A trip: flight, hotel and car, each with its undo; no scope, no pivot, no person.

What published benches of other engines call a saga: three steps, and the way back. An event starts it, an event says
how it ended.
"""

from __future__ import annotations

from datetime import timedelta

from orchestrator import Command, Done, Event, Failure, Key, Reply, Retry, Saga, publish, step

NOWHERE = "nowhere"  # there is no car


class TripWanted(Event, name="bench.TripWanted"):
    """Somebody wants to travel."""

    trip_id: Key[str]
    destination: str


class TripBooked(Event, name="bench.TripBooked"):
    """All three are booked."""

    trip_id: Key[str]
    car_booking: str


class TripFailed(Event, name="bench.TripFailed"):
    """One was not to be had, and the others were cancelled."""

    trip_id: Key[str]
    reason: str


class Booked(Reply, name="bench.Booked"):
    """One of the three."""

    booking_id: str


class BookFlight(Command[Booked], to="bench-flights", name="bench.BookFlight"):
    """The first step."""

    trip_id: str
    destination: str


class CancelFlight(Command[Done], to="bench-flights", name="bench.CancelFlight"):
    """Undo of the first."""

    booking_id: str


class BookHotel(Command[Booked], to="bench-hotels", name="bench.BookHotel"):
    """The second step."""

    trip_id: str
    destination: str


class CancelHotel(Command[Done], to="bench-hotels", name="bench.CancelHotel"):
    """Undo of the second."""

    booking_id: str


class BookCar(Command[Booked], to="bench-cars", name="bench.BookCar"):
    """The third step."""

    trip_id: str
    destination: str


class CancelCar(Command[Done], to="bench-cars", name="bench.CancelCar"):
    """Undo of the third."""

    booking_id: str


PATIENT = Retry(attempts=5)
FIRM = Retry(attempts=20)


@step(retry=PATIENT, within=timedelta(seconds=30))
def book_flight(trip: TripWanted) -> BookFlight:
    return BookFlight(trip_id=trip.trip_id, destination=trip.destination)


@book_flight.undo(retry=FIRM)
def cancel_flight(book_flight: Booked) -> CancelFlight:
    return CancelFlight(booking_id=book_flight.booking_id)


@step(retry=PATIENT, within=timedelta(seconds=30))
def book_hotel(trip: TripWanted) -> BookHotel:
    return BookHotel(trip_id=trip.trip_id, destination=trip.destination)


@book_hotel.undo(retry=FIRM)
def cancel_hotel(book_hotel: Booked) -> CancelHotel:
    return CancelHotel(booking_id=book_hotel.booking_id)


@step(retry=PATIENT, within=timedelta(seconds=30))
def book_car(trip: TripWanted) -> BookCar:
    return BookCar(trip_id=trip.trip_id, destination=trip.destination)


@book_car.undo(retry=FIRM)
def cancel_car(book_car: Booked) -> CancelCar:
    return CancelCar(booking_id=book_car.booking_id)


def trip_booked(trip: TripWanted, book_car: Booked) -> TripBooked:
    return TripBooked(trip_id=trip.trip_id, car_booking=book_car.booking_id)


def trip_failed(trip: TripWanted, failure: Failure) -> TripFailed:
    return TripFailed(trip_id=trip.trip_id, reason=failure.reason)


trip = Saga(
    "bench-trip",
    version=1,
    starts_on=TripWanted,
    flow=[book_flight, book_hotel, book_car, publish(trip_booked)],
    on_failed=publish(trip_failed),
)
