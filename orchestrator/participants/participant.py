"""Declaring a participant: which commands it obeys, how, and where it keeps what it did.

    inventory = Participant("inventory", migrations=Path(__file__).parent / "inventory")

    @inventory.handles(ReserveInventory)
    async def reserve(command: ReserveInventory, work: Work) -> InventoryReserved: ...

Rules of this file
- A declaration that cannot be safe is refused when the module is imported, with what to write instead.
- A handler with an effect outside the database must say how its outcome can be found out: `lookup=` with `lookup_for=`,
  or `idempotent_for=` (kernel rule 13). What no declaration covers: a process that freezes between its check of the
  lease and the call itself.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from orchestrator.broker.contract import TopicSpec
from orchestrator.messages import Command, Done, Refused, Registry, Reply
from orchestrator.messages.protocol import commands_topic, replies_topic
from orchestrator.participants.decide import OutsidePolicy
from orchestrator.participants.own_schema import OwnSchema
from orchestrator.participants.work import Asked, ManyWork, ParticipantError, Work

C = TypeVar("C", bound=Command[Any])
R = TypeVar("R", bound=Reply)

One: TypeAlias = Callable[[C, Work], Awaitable[R]]
Many: TypeAlias = Callable[[list[Asked[C]], ManyWork], Awaitable[list[R | Refused]]]
Lookup: TypeAlias = Callable[[C, Work], Awaitable[R | None]]
RecordOutcome: TypeAlias = Callable[[C, R, Work], Awaitable[None]]

LEASE = timedelta(seconds=30)
SETTLING = timedelta(seconds=5)
READ_LIMIT = timedelta(seconds=60)

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}\Z")


@dataclass(frozen=True, slots=True)
class Handler:
    """One command type and how it is obeyed; made by `Participant.handles` and `handles_many`."""

    command: type[Command[Any]]
    one: Callable[[Any, Work], Awaitable[Reply]] | None = None
    many: Callable[[list[Any], ManyWork], Awaitable[list[Any]]] | None = None
    policy: OutsidePolicy | None = None  # there is one: the effect is outside the database
    lookup: Callable[[Any, Work], Awaitable[Reply | None]] | None = None
    record: Callable[[Any, Any, Work], Awaitable[None]] | None = None
    reads: bool = False
    reads_outside: bool = False
    limit: timedelta = READ_LIMIT


class Participant:
    """A service that obeys commands. It has one PostgreSQL schema for its inbox and its own tables.

    name: as commands say it (`to=`); schema: the PostgreSQL schema, by default the name; migrations: a folder of
    numbered .sql files for tables of its own.
    """

    def __init__(self, name: str, *, schema: str = "", migrations: Path | None = None) -> None:
        if not _NAME.match(name):
            raise ParticipantError(f"participant {name!r}: a name is small letters, digits, - and _, as in inventory")
        self.name = name
        self.own_schema = OwnSchema(schema or name.replace("-", "_"), migrations, inbox=True)
        self.contracts = Registry([Done])
        self._handlers: dict[str, Handler] = {}

    def __repr__(self) -> str:
        return f"Participant({self.name!r})"

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """What it obeys, by the command's wire name."""
        return self._handlers

    def topics(self) -> list[TopicSpec]:
        """The topics that must exist before it runs."""
        return [TopicSpec(commands_topic(self.name)), TopicSpec(replies_topic(self.name))]

    def handles(
        self,
        command: type[Command[R]],
        *,
        lookup: Lookup[Any, R] | None = None,
        lookup_for: timedelta | None = None,
        idempotent_for: timedelta | None = None,
        lease: timedelta = LEASE,
        settling: timedelta = SETTLING,
        record: RecordOutcome[Any, R] | None = None,
        reads: bool = False,
        outside: bool = False,
        limit: timedelta = READ_LIMIT,
    ) -> Callable[[One[C, R]], One[C, R]]:
        """Declares the handler of one command type.

        By default its effect is in this database: `work.connection` is the transaction of effect, inbox row and reply.
        lookup, lookup_for: the effect is elsewhere; `await lookup(command, work)` gives the reply if it was done, None
        if the outside knows nothing of `work.key`, or raises Refused; the outside remembers a key for `lookup_for`.
        idempotent_for: the effect is elsewhere, and calling again with `work.key` within this time is the same call.
        lease: how long one delivery may call. settling: how long after that a call may still arrive.
        record: writes rows that belong to an outside effect's outcome, in the transaction that stores it.
        reads: no effect at all; nothing is stored, and `limit` is how long it may take. outside: its effect, or what it
        reads, is elsewhere.

        Raises ParticipantError for a declaration that cannot be safe.
        """
        policy = None
        if outside or lookup is not None or idempotent_for is not None or lookup_for is not None:
            policy = OutsidePolicy(lease, settling, lookup_for, idempotent_for)
        where = f"participant {self.name}, {command.__name__}"
        _check_policy(where, None if reads else policy, lookup is not None)
        if reads and (lookup is not None or idempotent_for is not None or record is not None):
            raise ParticipantError(
                f"{where}: reads=True has no effect, so lookup=, idempotent_for=, record= mean nothing"
            )
        if record is not None and policy is None:
            raise ParticipantError(f"{where}: record= is for outside effects; here use work.connection in the handler")

        def declare(function: One[C, R]) -> One[C, R]:
            _check_function(where, function, command, 2)
            handler = Handler(
                command,
                one=function,
                policy=None if reads else policy,
                lookup=lookup,
                record=record,
                reads=reads,
                reads_outside=reads and outside,
                limit=limit,
            )
            self._declare(where, handler)
            return function

        return declare

    def handles_many(self, command: type[Command[R]]) -> Callable[[Many[C, R]], Many[C, R]]:
        """Declares a handler for many commands of one type at once, for speed; its effect is in this database.

        It gets a list of `Asked` and gives a list of the same length and order: the reply, or a Refused. When it
        raises, its part of the transaction is rolled back and it is called again for each command alone.
        """
        where = f"participant {self.name}, {command.__name__}"

        def declare(function: Many[C, R]) -> Many[C, R]:
            _check_function(where, function, command, 2)
            self._declare(where, Handler(command, many=function))
            return function

        return declare

    def _declare(self, where: str, handler: Handler) -> None:
        command = handler.command
        if command.participant != self.name:
            raise ParticipantError(f"{where}: its contract says to={command.participant!r}; one of the two is wrong")
        if command.wire_name in self._handlers:
            raise ParticipantError(f"{where}: there is a handler for it already; one command type has one")
        self.contracts.add(command)
        self.contracts.add(command.reply_type)
        self._handlers[command.wire_name] = handler


def _check_policy(where: str, policy: OutsidePolicy | None, has_lookup: bool) -> None:
    if policy is None:
        return
    if not has_lookup and policy.idempotent_for is None:
        raise ParticipantError(
            f"{where}: its effect is outside the database, so after a crash nobody could know whether it happened. "
            "Declare lookup= with lookup_for=, or idempotent_for=, or reads=True if it has no effect"
        )
    if has_lookup != (policy.lookup_for is not None):
        raise ParticipantError(f"{where}: lookup= and lookup_for= (how long the outside remembers a key) go together")
    if policy.lease <= timedelta(0) or policy.settling < timedelta(0):
        raise ParticipantError(f"{where}: lease= must be positive and settling= not negative")
    for name, lasts in (("lookup_for", policy.lookup_for), ("idempotent_for", policy.idempotent_for)):
        if lasts is not None and lasts <= policy.lease + policy.settling:
            raise ParticipantError(
                f"{where}: {name}={lasts} is not longer than lease + settling = {policy.lease + policy.settling}: the "
                "outside would forget the key before anything could be known for certain. Shorten the lease"
            )


def _check_function(where: str, function: Callable[..., Any], command: type[Command[Any]], parameters: int) -> None:
    name = getattr(function, "__qualname__", repr(function))
    if not inspect.iscoroutinefunction(function):
        raise ParticipantError(f"{where}: {name} must be an async function")
    signature = inspect.signature(function)
    if len(signature.parameters) != parameters:
        raise ParticipantError(f"{where}: {name} must take two parameters, the command and the work")
    first = next(iter(signature.parameters))
    try:
        hints = typing.get_type_hints(function)
    except NameError:  # a name that exists for the type checker only
        return
    hint = hints.get(first, command)
    wanted = {command, list[Asked[command]]}  # type: ignore[valid-type]
    if isinstance(hint, type) and issubclass(hint, Command) and hint not in wanted:
        raise ParticipantError(f"{where}: {name} takes a {hint.__name__}, but it is declared for {command.__name__}")
