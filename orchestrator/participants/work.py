"""What a handler is given, and what it may raise besides `Refused`.

Rules of this file
- A handler's effect belongs into the transaction of `work.connection`; then effect, inbox row and reply are one commit.
- A handler whose effect is elsewhere has no connection. It sends nothing but with `timeout=work.time_left()`, written
  in the very call, so that the lease is checked right before it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypeAlias, TypeVar

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from orchestrator.messages import Command

C = TypeVar("C", bound=Command[Any])

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"


class ParticipantError(Exception):
    """A participant is declared or used wrongly. For its author; the text says what to write instead."""

    retriable = False


class NotSent(Exception):
    """Raised by a handler with an outside effect: nothing has left this process, so there is nothing to look up.

    Only for what is certain, for example a refused connection. A time-out is not: the other side may have acted.
    """


class LeaseOver(Exception):
    """The time in which this delivery may call the outside is over. Somebody else may settle the key at any moment."""


def elapsed_seconds() -> float:
    """A clock that never goes back and also counts while the machine sleeps, where the system has one."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(boot) if boot is not None else time.monotonic()


@dataclass(frozen=True, slots=True)
class Work:
    """What surrounds one command.

    key: the idempotency key, the same for every attempt; hand it on to an outside that takes one. now: the database's
    clock, aware UTC. traceparent: hand it on with outside calls. attempt: counts from 1, for logs alone.
    """

    key: str
    saga_id: str
    tenant: str
    activity: str
    attempt: int
    now: datetime
    traceparent: str = ""
    _connection: Connection | None = None
    _over_at: float | None = None
    _clock: Callable[[], float] = field(default=elapsed_seconds, repr=False)

    @property
    def connection(self) -> Connection:
        """The connection, inside the transaction of effect, inbox row and reply.

        Raises ParticipantError for a handler whose effect is outside the database: a transaction must not stay open
        during a call.
        """
        if self._connection is None:
            raise ParticipantError(
                "this handler has its effect outside the database (lookup=, idempotent_for= or outside= says so), so "
                "it has no transaction; use record= for rows that belong to its outcome"
            )
        return self._connection

    def time_left(self) -> float:
        """Seconds until the lease is over: the time-out of the call in which it stands. Raises LeaseOver after that."""
        if self._over_at is None:
            raise ParticipantError("only a handler with an outside effect has a lease, so only it has time left")
        left = self._over_at - self._clock()
        if left <= 0:
            raise LeaseOver(f"the lease ended {-left:.3f} s ago")
        return left


@dataclass(frozen=True, slots=True)
class Asked(Generic[C]):
    """One command among many, for `handles_many`."""

    command: C
    key: str
    saga_id: str
    tenant: str
    activity: str
    attempt: int
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class ManyWork:
    """What surrounds many commands: one transaction, one clock."""

    connection: Connection
    now: datetime


def seconds(value: timedelta) -> float:
    """A duration in seconds."""
    return value.total_seconds()
