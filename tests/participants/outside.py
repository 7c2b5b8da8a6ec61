"""A world outside the database, and a participant that acts there: both misbehave on request."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from orchestrator.messages import Command, Done, Reply
from orchestrator.participants import Participant, Refused, Work
from orchestrator.participants.testing import Answered, Trial
from tests.participants.tills import MIGRATIONS

LEASE, SETTLING = timedelta(seconds=30), timedelta(seconds=5)
FOR = timedelta(hours=1)


class Paid(Reply, name="payer.Paid"):
    """The number that the outside gave the payment."""

    number: int


class Pay(Command[Paid], to="payer", name="payer.Pay"):
    """Pay this much, outside."""

    amount: int


class PayBack(Command[Done], to="payer", name="payer.PayBack"):
    """Undo of Pay, in the participant's own database."""

    amount: int


class World:
    """The outside: remembers what it did by key. `calls` and `lookups` are what was asked of it."""

    def __init__(self) -> None:
        self.done: dict[str, int] = {}
        self.calls: list[str] = []
        self.lookups: list[str] = []
        self.on_call: Callable[[Work], Awaitable[None]] | None = None
        self.on_lookup: Callable[[Work], Awaitable[None]] | None = None
        self.refuse = False
        self.forgets = False
        self.recorded: list[str] = []

    async def pay(self, command: Pay, work: Work) -> Paid:
        """The handler: one call to the outside."""
        work.time_left()
        self.calls.append(work.key)
        if self.on_call is not None:
            await self.on_call(work)
        return self.arrive(work.key)

    def arrive(self, key: str) -> Paid:
        """A call arrives at the outside, perhaps long after it was sent."""
        if key not in self.done:
            if self.refuse:
                raise Refused("no_money", "the account is empty")
            self.done[key] = len(self.done) + 1
        return Paid(number=self.done[key])

    async def ask(self, command: Pay, work: Work) -> Paid | None:
        """The look-up."""
        self.lookups.append(work.key)
        if self.on_lookup is not None:
            await self.on_lookup(work)
        if self.forgets or work.key not in self.done:
            return None
        return Paid(number=self.done[work.key])

    async def record(self, command: Pay, reply: Paid, work: Work) -> None:
        """Rows that belong to the outcome."""
        self.recorded.append(work.key)
        await work.connection.execute(
            "INSERT INTO effects (kind, key, amount) VALUES ('paid', $1, $2)", work.key, command.amount
        )


def payer(world: World, *, lookup: bool, idempotent: bool) -> Participant:
    """A participant that pays outside, with these ways to find out what happened."""
    made = Participant("payer", migrations=MIGRATIONS)
    made.handles(
        Pay,
        lookup=world.ask if lookup else None,
        lookup_for=FOR if lookup else None,
        idempotent_for=FOR if idempotent else None,
        lease=LEASE,
        settling=SETTLING,
        record=world.record,
    )(world.pay)

    @made.handles(PayBack)
    async def pay_back(command: PayBack, work: Work) -> Done:
        await work.connection.execute(
            "INSERT INTO effects (kind, key, amount) VALUES ('back', $1, $2)", work.key, -command.amount
        )
        return Done()

    return made


async def age(tried: Trial, seconds: float) -> None:
    """Lets time pass for every started row, without waiting."""
    await tried.rows(
        "UPDATE inbox SET first_started_at = first_started_at - $1::interval, started_at = started_at - $1::interval, "
        "lease_until = lease_until - $1::interval RETURNING key",
        timedelta(seconds=seconds),
    )


async def crash(work: Work) -> None:
    """The participant's process dies in the middle of its call: nothing of what follows happens."""
    raise Crash


class Crash(BaseException):
    """As a killed process: no handler of exceptions sees it."""


async def hang(work: Work) -> None:
    """The outside never answers."""
    await asyncio.sleep(3600)


CLEAR = (LEASE + SETTLING).total_seconds() + 1  # after that, no call of a start can still arrive
FORGOTTEN = FOR.total_seconds() + CLEAR


async def dies(tried: Trial, world: World, *, after_arrival: bool = False) -> None:
    """A command whose participant is killed during the call; the call has arrived, or is lost."""

    async def killed(work: Work) -> None:
        if after_arrival:
            world.arrive(work.key)
        raise Crash

    world.on_call = killed
    with pytest.raises(Crash):
        await tried.ask(Pay(amount=5))
    world.on_call = None


def code(answered: Answered) -> tuple[str, int]:
    return answered.outcome, answered.reply.number if isinstance(answered.reply, Paid) else 0
