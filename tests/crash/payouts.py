"""Sagas for the line sweep: a payout with two steps that can be undone, an approval and a payment outside; a reminder.

Rules of this file
- The vault's effects are rows of its own ledger, in the transaction of their answer. Nothing in the ledger forbids a
  second row: what is done twice is seen twice.
- The teller's effects are outside every database: lines of a file, on the disk before the answer. The file takes a line
  twice as well; that it does not get one is the work of the participant's inbox and its look-up.
"""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel

from orchestrator import (
    Command,
    Done,
    Event,
    Key,
    Refused,
    Reply,
    Retry,
    Role,
    Saga,
    delay,
    fail,
    pivot,
    publish,
    step,
    task,
)
from orchestrator.participants import Asked, ManyWork, Participant, Work

CONTEXT = "lines"
WORLD_VARIABLE = "LINES_WORLD"  # the path of the file that is the world outside
REMINDED_AFTER = timedelta(milliseconds=20)

# After a crash nobody may call the outside again before the lease of the dead call and what may still be on its way are
# over. Calls here take microseconds, so both are short.
LEASE, SETTLING, REMEMBERED = timedelta(milliseconds=300), timedelta(milliseconds=50), timedelta(hours=1)
PATIENT = Retry(attempts=50, first=timedelta(milliseconds=50), ceiling=timedelta(milliseconds=200))


class PayoutWanted(Event, context=CONTEXT):
    """Starts a payout. `flaw`: "book" has the second step refused."""

    payout_id: Key[str]
    flaw: str = ""


class PayoutPaid(Event, context="linesdone"):
    """The end of a payout."""

    payout_id: Key[str]


class ReminderWanted(Event, context=CONTEXT):
    """Starts a reminder."""

    reminder_id: Key[str]


class Entered(Reply, context=CONTEXT):
    """What the vault wrote."""

    payout_id: str


class Hold(Command[Entered], to="vault", context=CONTEXT):
    """First step."""

    payout_id: str


class Release(Command[Done], to="vault", context=CONTEXT):
    """Its undo."""

    payout_id: str


class Book(Command[Entered], to="vault", context=CONTEXT):
    """Second step."""

    payout_id: str
    flaw: str = ""


class Unbook(Command[Done], to="vault", context=CONTEXT):
    """Its undo."""

    payout_id: str


class Pay(Command[Done], to="teller", context=CONTEXT):
    """Hands the money over, outside."""

    what: str


class ToApprove(BaseModel):
    """What is shown to the approver."""

    payout_id: str


@step(retry=PATIENT, within=timedelta(seconds=20))
def hold(wanted: PayoutWanted) -> Hold:
    return Hold(payout_id=wanted.payout_id)


@hold.undo(retry=PATIENT)
def release(wanted: PayoutWanted) -> Release:
    return Release(payout_id=wanted.payout_id)


@step(retry=PATIENT, within=timedelta(seconds=20))
def book(wanted: PayoutWanted) -> Book:
    return Book(payout_id=wanted.payout_id, flaw=wanted.flaw)


@book.undo(retry=PATIENT)
def unbook(wanted: PayoutWanted) -> Unbook:
    return Unbook(payout_id=wanted.payout_id)


@task(to=Role("boss"), within=timedelta(hours=1))
def approve(wanted: PayoutWanted) -> ToApprove:
    """Look at it."""
    return ToApprove(payout_id=wanted.payout_id)


@step(retry=PATIENT, within=timedelta(seconds=20))
def pay(wanted: PayoutWanted) -> Pay:
    return Pay(what=wanted.payout_id)


@step(retry=PATIENT, undo=None, within=timedelta(seconds=20))
def remind(wanted: ReminderWanted) -> Pay:
    return Pay(what=wanted.reminder_id)


def paid(wanted: PayoutWanted) -> PayoutPaid:
    return PayoutPaid(payout_id=wanted.payout_id)


payout = Saga(
    "payout-by-line",
    version=1,
    starts_on=PayoutWanted,
    flow=[hold, book, approve.on_reject(fail("no")).on_timeout(fail("late")), pivot(pay), publish(paid)],
)
reminder = Saga("reminder-by-line", version=1, starts_on=ReminderWanted, flow=[delay(REMINDED_AFTER), remind])

vault = Participant("vault", migrations=Path(__file__).parent / "vault")
teller = Participant("teller")


@vault.handles_many(Hold)
async def on_hold(asked: list[Asked[Hold]], work: ManyWork) -> list[Entered | Refused]:
    """Many at once, in one statement."""
    await _enter(work, "hold", [(one.key, one.command.payout_id) for one in asked])
    return [Entered(payout_id=one.command.payout_id) for one in asked]


@vault.handles_many(Book)
async def on_book(asked: list[Asked[Book]], work: ManyWork) -> list[Entered | Refused]:
    """The flawed ones are refused."""
    well = [one for one in asked if not one.command.flaw]
    await _enter(work, "book", [(one.key, one.command.payout_id) for one in well])
    return [
        Refused("flawed", one.command.flaw) if one.command.flaw else Entered(payout_id=one.command.payout_id)
        for one in asked
    ]


@vault.handles(Release)
async def on_release(command: Release, work: Work) -> Done:
    """One by one."""
    await work.connection.execute(_ENTER, [work.key], "release", [command.payout_id])
    return Done()


@vault.handles(Unbook)
async def on_unbook(command: Unbook, work: Work) -> Done:
    """One by one."""
    await work.connection.execute(_ENTER, [work.key], "unbook", [command.payout_id])
    return Done()


_ENTER = "INSERT INTO ledger (key, kind, payout_id) SELECT k, $2, p FROM unnest($1::text[], $3::text[]) AS x (k, p)"


async def _enter(work: ManyWork, kind: str, entries: list[tuple[str, str]]) -> None:
    if entries:
        await work.connection.execute(_ENTER, [key for key, _ in entries], kind, [payout for _, payout in entries])


async def find(command: Pay, work: Work) -> Done | None:
    """The look-up: what the world says of this key."""
    return Done() if any(key == work.key for key, _ in outside()) else None


@teller.handles(Pay, lookup=find, lookup_for=REMEMBERED, lease=LEASE, settling=SETTLING)
async def on_pay(command: Pay, work: Work) -> Done:
    """One line, on the disk before the answer."""
    work.time_left()
    file = os.open(os.environ[WORLD_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{work.key} {command.what}\n".encode())
        os.fsync(file)
    finally:
        os.close(file)
    return Done()


def outside() -> list[tuple[str, str]]:
    """Everything that happened outside, in order: (idempotency key, what)."""
    world = Path(os.environ[WORLD_VARIABLE])
    lines = world.read_text().splitlines() if world.exists() else []
    return [(key, what) for key, _, what in (line.partition(" ") for line in lines)]
