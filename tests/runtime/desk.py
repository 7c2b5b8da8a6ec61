"""A coordinator on a real database, without loops: tests hand it messages and look at what was committed."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson

from orchestrator.broker.contract import IncomingMessage
from orchestrator.config import Settings
from orchestrator.kernel.inputs import TimerDue
from orchestrator.messages import Contract
from orchestrator.messages.canonical import canonical_bytes
from orchestrator.messages.envelope import Envelope, read, schema_urn
from orchestrator.messages.protocol import (
    REFUSED_TYPE,
    CommandHeader,
    commands_topic,
    events_topic,
    replies_topic,
    reply_envelope,
)
from orchestrator.runtime import parts
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.hints import Hints
from orchestrator.runtime.work import Cause, EarlyCheck, Item, Outcome, SagaInput
from orchestrator.store.contract import OutboxRow, Store
from orchestrator.store.postgres import PostgresStore
from tests.runtime.shop import SAGAS

_offsets = itertools.count(1)
_ids = itertools.count(1)


def incoming(
    topic: str, key: str, headers: Any, value: bytes | None, *, at: int = 0, partition: int = 0
) -> IncomingMessage:
    """A message as the broker gives it."""
    return IncomingMessage(topic, partition, next(_offsets), key.encode(), value, tuple(headers), at)


def event(message: Contract, *, id: str = "", source: str = "/shop", at: int = 0, tenant: str = "") -> IncomingMessage:
    """A domain event of another service; `at`: when the broker got it, microseconds (0: now)."""
    at = at or time.time_ns() // 1000
    envelope = Envelope(
        id=id or f"e{next(_ids)}",
        source=source,
        type=message.wire_name,
        dataschema=schema_urn(message.wire_name, message.wire_version),
        extensions={"tenant": tenant},
    )
    return incoming(events_topic(message.context), message.key(), envelope.headers(), message.canonical(), at=at)  # type: ignore[attr-defined]


def header_of(row: OutboxRow) -> CommandHeader:
    """What a participant reads of a command."""
    envelope, _ = read(row.headers, row.value)
    return CommandHeader.of(envelope)


def reply(
    row: OutboxRow, outcome: Contract | str = "", *, reason: str = "", topic: str = "", id: str = ""
) -> IncomingMessage:
    """A participant's answer to a command: a reply contract, or an outcome without data."""
    header = header_of(row)
    participant = row.topic.removesuffix(".commands")
    if isinstance(outcome, Contract):
        schema = schema_urn(outcome.wire_name, outcome.wire_version)
        envelope = reply_envelope(header, participant, "ok", outcome.wire_name, dataschema=schema)
        value = outcome.canonical()
    else:
        envelope = reply_envelope(header, participant, outcome, REFUSED_TYPE)
        value = canonical_bytes({"reason": reason or outcome})
    headers = [(name, id.encode() if id and name == "ce_id" else text) for name, text in envelope.headers()]
    return incoming(topic or replies_topic(participant), row.saga_id, headers, value)


class Desk:
    """One coordinator. `sent` is what it handed to the relay, in order."""

    def __init__(self, store: Store, settings: Settings, catalog: Catalog) -> None:
        self.store, self.settings, self.catalog = store, settings, catalog
        self.hints = Hints()
        self.router = parts.router(settings, catalog)
        self.coordinator = parts.coordinator(settings, catalog, store, self.hints)
        self.coordinator.outlet = self
        self.sent: list[OutboxRow] = []
        self.foreign: list[tuple[str, bool]] = []

    def accept(self, saga_id: str, rows: Sequence[OutboxRow], foreign: bool) -> None:
        """As the relay."""
        self.sent += rows
        self.foreign.append((saga_id, foreign))

    async def take(self, *messages: IncomingMessage) -> list[Outcome]:
        """One batch of messages."""
        items = [item for message in messages if (item := self.router.route(message)) is not None]
        return await self.coordinator.process(items)

    async def decide(self, *items: Item) -> list[Outcome]:
        """One batch of items."""
        return await self.coordinator.process(items)

    async def fire(self, saga_id: str, activity: str, armed: int) -> Outcome:
        """One timer."""
        (outcome,) = await self.decide(SagaInput(saga_id, TimerDue(activity, armed), Cause("main")))
        return outcome

    async def checks(self) -> list[Outcome]:
        """What the reconciler would do about waits opened without a lock."""
        waiting = await self.store.due_checks(100)
        return await self.decide(*(EarlyCheck(wait, Cause("main")) for wait in waiting))

    def commands(self, saga_id: str = "") -> list[OutboxRow]:
        """Commands handed to the relay, of one saga or of all."""
        return [row for row in self.sent if row.topic.endswith(".commands") and saga_id in ("", row.saga_id)]

    def newest(self, participant: str) -> OutboxRow:
        """The newest command for a participant."""
        return [row for row in self.sent if row.topic == commands_topic(participant)][-1]


class Eyes:
    """Reads the tables, as somebody who trusts nobody."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def rows(self, query: str, *args: object) -> list[dict[str, Any]]:
        """All rows of a query."""
        connection = await asyncpg.connect(self._url)
        try:
            return [dict(row) for row in await connection.fetch(query, *args)]
        finally:
            await connection.close()

    async def stream(self, saga_id: str) -> list[str]:
        """The types of a saga's records, in order."""
        rows = await self.rows("SELECT body FROM records WHERE saga_id = $1 ORDER BY version", saga_id)
        return [orjson.loads(row["body"])["type"] for row in rows]

    async def letters(self) -> list[tuple[str, str]]:
        """Reason and detail of every dead letter."""
        rows = await self.rows("SELECT reason, detail FROM dead_letters ORDER BY id")
        return [(row["reason"], row["detail"]) for row in rows]

    async def count(self, table: str) -> int:
        """Rows of a table."""
        return int((await self.rows(f"SELECT count(*)::int AS n FROM {table}"))[0]["n"])


@asynccontextmanager
async def at_desk(
    url: str, *, sagas: Iterable[Any] = SAGAS, store: Store | None = None, **settings: Any
) -> AsyncIterator[Desk]:
    """A desk that is ready."""
    catalog = Catalog.of(sagas)
    if store is not None:
        yield Desk(store, Settings(**settings), catalog)
        return
    async with PostgresStore(url) as own:
        await catalog.register(own)
        yield Desk(own, Settings(**settings), catalog)
