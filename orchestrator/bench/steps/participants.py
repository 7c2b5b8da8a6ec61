"""The three desks of a trip: each books and cancels, in a table and a schema of its own."""

from __future__ import annotations

from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from orchestrator import Command, Done, Refused
from orchestrator.bench.steps.definition import (
    NOWHERE,
    BookCar,
    Booked,
    BookFlight,
    BookHotel,
    CancelCar,
    CancelFlight,
    CancelHotel,
)
from orchestrator.participants import Asked, ManyWork, Participant, load_queries

SQL = load_queries("orchestrator.bench.steps", "participants.sql")
MIGRATIONS = Path(__file__).parent / "migrations"

Book = BookFlight | BookHotel | BookCar
Cancel = CancelFlight | CancelHotel | CancelCar
Entry = tuple[str, str, str, str]  # key, booking, trip, kind


def desk(name: str, book: type[Command[Booked]], cancel: type[Command[Done]]) -> Participant:
    """A participant that books and cancels one kind of thing."""
    participant = Participant(name, migrations=MIGRATIONS)
    participant.handles_many(book)(_book)
    participant.handles_many(cancel)(_cancel)
    return participant


async def _book(asked: list[Asked[Book]], work: ManyWork) -> list[Booked | Refused]:
    answers: list[Booked | Refused] = []
    entries: list[Entry] = []
    for one in asked:
        if isinstance(one.command, BookCar) and one.command.destination == NOWHERE:
            answers.append(Refused("no_car", "there is no car"))
            continue
        booking = f"B-{uuid5(NAMESPACE_URL, one.tenant + one.key)}"
        entries.append((one.key, booking, one.command.trip_id, "booked"))
        answers.append(Booked(booking_id=booking))
    await _enter(work, entries)
    return answers


async def _cancel(asked: list[Asked[Cancel]], work: ManyWork) -> list[Done | Refused]:
    rows = await work.connection.fetch(SQL["booked"], [one.command.booking_id for one in asked])
    trips: dict[str, str] = {row["booking_id"]: row["trip_id"] for row in rows}
    answers: list[Done | Refused] = []
    entries: list[Entry] = []
    for one in asked:
        booking = one.command.booking_id
        if booking in trips:
            entries.append((one.key, booking, trips[booking], "cancelled"))
            answers.append(Done())
        else:
            answers.append(Refused("unknown_booking", booking))
    await _enter(work, entries)
    return answers


async def _enter(work: ManyWork, entries: list[Entry]) -> None:
    if entries:
        await work.connection.execute(SQL["add_bookings"], *(list(column) for column in zip(*entries, strict=True)))


flights = desk("bench-flights", BookFlight, CancelFlight)
hotels = desk("bench-hotels", BookHotel, CancelHotel)
cars = desk("bench-cars", BookCar, CancelCar)
