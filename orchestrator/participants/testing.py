"""Trying handlers without a broker and without a coordinator.

    async with throwaway_trial(inventory) as warehouse:           # or trial(inventory, pool, migrate_url)
        reserved = await warehouse.ask(ReserveInventory(...))
        assert reserved.reply == InventoryReserved(...)
        assert await warehouse.again(reserved) == reserved            # the same bytes
        assert (await warehouse.undo(ReleaseInventory(...), reserved)).outcome == "ok"

Commands go the same way as in a running participant: headers, inbox, transaction, stored answer. Only reading from the
broker and sending to it are missing.
"""

from __future__ import annotations

import hashlib
import itertools
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from orchestrator.broker.contract import IncomingMessage, OutgoingMessage
from orchestrator.messages import Command, Contract, Envelope
from orchestrator.messages.envelope import read, schema_urn
from orchestrator.messages.protocol import commands_topic
from orchestrator.participants import answers, batches
from orchestrator.participants.delivery import Delivery, Unreadable, read_delivery
from orchestrator.participants.inbox import Inbox, InboxConflict
from orchestrator.participants.participant import Participant
from orchestrator.participants.pool import open_pool
from orchestrator.participants.reads import answer_reading
from orchestrator.participants.settings import ParticipantSettings
from orchestrator.participants.single import Singles
from orchestrator.participants.work import Pool
from orchestrator.store.embedded import EmbeddedPostgres

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"  # of every command that is sent here

_offsets = itertools.count()


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer. `message` is what would have been sent; two equal ones are the same bytes."""

    asked: IncomingMessage
    message: OutgoingMessage
    key: str
    outcome: str
    reply: Contract | None
    reason: str
    code: str
    until: int
    done_key: str


def command_message(
    command: Command[Any],
    *,
    saga: str = "saga-1",
    activity: str = "",
    round: int = 1,
    attempt: int = 1,
    purpose: str = "do",
    undoes: str = "",
    earlier: Sequence[str] = (),
    tenant: str = "main",
    key: str = "",
    id: str = "",
) -> OutgoingMessage:
    """The message that a coordinator would send for this command."""
    body = command.canonical()
    activity = activity or type(command).__name__
    key = key or f"{saga}:{activity}:{round}:{hashlib.sha256(body).hexdigest()[:16]}"
    extensions = {
        "tenant": tenant,
        "correlationid": saga,
        "activity": activity,
        "round": str(round),
        "attempt": str(attempt),
        "purpose": purpose,
        "idempotencykey": key,
        "undoes": undoes,
        "earlier": " ".join(earlier),
    }
    envelope = Envelope(
        id=id or f"{saga}/{activity}/{round}/{purpose}/{attempt}",
        source="/sagas/test",
        type=command.wire_name,
        dataschema=schema_urn(command.wire_name, command.wire_version),
        traceparent=TRACEPARENT,
        extensions=extensions,
    )
    return OutgoingMessage(commands_topic(command.participant), saga.encode(), body, envelope.headers())


def incoming(message: OutgoingMessage, offset: int | None = None, partition: int = 0) -> IncomingMessage:
    """A sent message as it would be read."""
    place = next(_offsets) if offset is None else offset
    return IncomingMessage(message.topic, partition, place, message.key, message.value, message.headers, 0)


class Trial:
    """A participant on trial; made by `trial`."""

    def __init__(self, participant: Participant, pool: Pool, settings: ParticipantSettings | None = None) -> None:
        self.participant = participant
        self.settings = settings or ParticipantSettings()
        self.inbox = Inbox(pool, participant.own_schema.name, self.settings)
        self.singles = Singles(self.inbox, participant.handlers, self.settings.reply_bytes_max)

    async def ask(self, command: Command[Any], **headers: Any) -> Answered:
        """Sends one command; `headers` as in `command_message`."""
        return (await self.deliver([incoming(command_message(command, **headers))]))[0]

    async def fence(self, command: Command[Any], **headers: Any) -> Answered:
        """Fences one command: what became of it, or never."""
        return await self.ask(command, purpose="fence", **headers)

    async def undo(self, command: Command[Any], done: Answered | str, **headers: Any) -> Answered:
        """Undoes what was answered before (or a key) with this command."""
        key = done if isinstance(done, str) else done.done_key or done.key
        return await self.ask(command, **{"purpose": "undo", "undoes": key, **headers})

    async def again(self, answered: Answered) -> Answered:
        """Delivers the very message of an answer once more."""
        return (await self.deliver([answered.asked]))[0]

    async def ask_all(self, commands: Sequence[Command[Any]], **headers: Any) -> list[Answered]:
        """Sends many commands as one batch, each of a saga of its own."""
        sent = [command_message(command, saga=f"saga-{place}", **headers) for place, command in enumerate(commands, 1)]
        return await self.deliver([incoming(message) for message in sent])

    async def deliver(self, messages: Sequence[IncomingMessage]) -> list[Answered]:
        """Delivers messages as one batch; gives the answers in their order, without those that nobody could read."""
        read_all = [read_delivery(message, self.participant.handlers) for message in messages]
        deliveries = [found for found in read_all if isinstance(found, Delivery)]
        unreadable = [found for found in read_all if isinstance(found, Unreadable)]
        reading = [found for found in deliveries if found.handler is not None and found.handler.reads]
        rest = [found for found in deliveries if not any(found is other for other in reading)]
        limit = self.settings.reply_bytes_max
        outcome = await self._process(rest, unreadable)
        answered = {id(delivery): answer for delivery, answer, _ in outcome.answered}
        for delivery in outcome.slow:
            answered[id(delivery)] = await self.singles.answer(delivery)
        for delivery in reading:
            answered[id(delivery)] = await answer_reading(self.inbox, delivery, limit)
        return [self._answered(delivery, answered[id(delivery)]) for delivery in deliveries]

    async def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        """Rows of the participant's own schema, for looking at effects."""
        async with self.inbox.transaction() as transaction:
            return [dict(row) for row in await transaction.connection.fetch(query, *arguments)]

    async def _process(self, deliveries: list[Delivery], unreadable: list[Unreadable]) -> batches.Outcome:
        while True:
            try:
                return await batches.process(self.inbox, deliveries, unreadable, {}, self.settings.reply_bytes_max)
            except InboxConflict:  # another delivery of this test was faster
                continue

    def _answered(self, delivery: Delivery, answer: answers.Answer) -> Answered:
        message = answers.message(delivery.header, self.participant.name, answer)
        envelope, body = read(message.headers, message.value)
        data = orjson.loads(body)
        ok = answer.outcome == "ok"
        reply = self.participant.contracts.get(answer.type).from_bytes(body) if ok else None
        return Answered(
            delivery.message,
            message,
            delivery.header.key,
            envelope.extension("outcome"),
            reply,
            "" if ok else data.get("reason", ""),
            "" if ok else data.get("code", ""),
            int(envelope.extension("until", "0")),
            envelope.extension("donekey"),
        )


@asynccontextmanager
async def throwaway_trial(
    participant: Participant, settings: ParticipantSettings | None = None
) -> AsyncIterator[Trial]:
    """As `trial`, on an embedded PostgreSQL of its own, which is gone afterwards; needs the extra `embedded`."""
    with tempfile.TemporaryDirectory(prefix="participant-") as directory:
        async with (
            EmbeddedPostgres(Path(directory), durable=False) as server,
            open_pool(server.url, 4) as pool,
            trial(participant, pool, server.migrate_url, settings) as tried,
        ):
            yield tried


@asynccontextmanager
async def trial(
    participant: Participant, pool: Pool, migrate_url: str, settings: ParticipantSettings | None = None
) -> AsyncIterator[Trial]:
    """Migrates the participant's schema and gives the participant to be tried."""
    await participant.own_schema.migrate(migrate_url)
    yield Trial(participant, pool, settings)
