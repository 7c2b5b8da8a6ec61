"""Where a saga's message lies on the broker: looked up in the log when somebody asks, never stored with every message.

Rules of this file
- What was sent is known to the byte from the outbox, while that keeps it; where it lies, how often, and what came in is
  read from the log itself. So a page shows what is there, not what somebody once noted (docs/adr/0064).
- A look is bounded in messages and time, and few go on at once: a page may not slow the brokers down.
- What was not found is said with how far was looked. Nothing is guessed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from orchestrator.api.times import instant, microseconds
from orchestrator.broker.contract import Broker, BrokerError, IncomingMessage, Looked
from orchestrator.messages.envelope import EnvelopeError, read
from orchestrator.pages.drawing.messages import Message
from orchestrator.store.operations import OperationQueries, SentMessage
from orchestrator.vault.vault import Vault

MESSAGES_MAX = 5_000
WAIT_MS = 1_500
LOOKS_MAX = 2  # at once in a process
SKEW = timedelta(seconds=5)  # between the database's clock and the broker's
AFTER = timedelta(minutes=10)  # how long after its record a message that was sent is looked for
NEAR = timedelta(minutes=1)  # nearly everything is taken in within this


@dataclass(frozen=True, slots=True)
class Lies:
    """What was found. `copies`: the message as often as it is there. `trouble`: why the log could not be read.

    `topic`: "" where it came by no topic. `read`: how many messages were looked at, between `since` and `until`.
    """

    topic: str
    copies: Sequence[IncomingMessage] = ()
    partitions: Sequence[int] = ()
    read: int = 0
    is_all: bool = True
    since: datetime | None = None
    until: datetime | None = None
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Taken:
    """That a message was taken in: when, and whether the log still holds the very bytes."""

    at: datetime
    is_same: bool


class LogLooks:
    """Looks of one process into the log."""

    def __init__(self, broker: Broker, queries: OperationQueries, vault: Vault | None = None) -> None:
        self._broker, self._queries, self._vault = broker, queries, vault
        self._room = asyncio.Semaphore(LOOKS_MAX)

    async def sent(self, tenant: str, saga_id: str, record: int) -> SentMessage | None:
        """A message that followed from a record, from the outbox."""
        return await self._queries.sent_message(tenant, saga_id, record)

    async def out(self, topic: str, key: str, message_id: str, at: datetime) -> Lies:
        """Where a message lies that was decided at this time."""
        span = (at - SKEW, min(at + AFTER, datetime.now(UTC)))
        return await self._look(topic, message_id, [(key, *span)])

    async def came(self, topic: str, key: str, message: Message) -> Lies:
        """Where a message lies that a record answers. `key`: under which it came, if it is as usual."""
        if not topic or is_inner(message.cause):
            return Lies("")
        until = message.at + SKEW
        near = max(message.since - SKEW, message.at - NEAR)
        far = message.since - SKEW
        return await self._look(topic, message.cause, [(key, near, until), (key, far, until), (None, far, until)])

    async def taken(self, tenant: str, copy: IncomingMessage) -> Taken | None:
        """When it was taken in, and whether these are the bytes that were."""
        names = _attributes(copy)
        found = await self._queries.taken_in(tenant, names.get("source", ""), names.get("id", ""))
        if found is None:
            return None
        return Taken(instant(found.received_at), found.body_hash in self._digests(copy.value or b""))

    def _digests(self, value: bytes) -> set[bytes]:
        """How the inbox may have noted these bytes: with a vault by a hash with a key, before there was one without."""
        bare = sha256(value).digest()
        return {bare} if self._vault is None else {bare, self._vault.digest(value)}

    async def _look(self, topic: str, id_: str, tries: Sequence[tuple[str | None, datetime, datetime]]) -> Lies:
        def wanted(message: IncomingMessage) -> bool:
            return _attributes(message).get("id") == id_

        found, since, until = Looked((), (), 0, True), *tries[0][1:]
        try:
            async with self._room:
                for key, since, until in tries:
                    encoded = key.encode("utf-8", "surrogatepass") if key is not None else None
                    found = await self._broker.look(
                        topic,
                        microseconds(since),
                        microseconds(until),
                        wanted,
                        key=encoded,
                        messages_max=MESSAGES_MAX,
                        wait_ms=WAIT_MS,
                    )
                    if found.found:
                        break
        except (BrokerError, TimeoutError) as error:
            return Lies(topic, since=since, until=until, trouble=str(error) or "no answer in time")
        return Lies(topic, found.found, found.partitions, found.read, found.is_all, since, until)


def is_inner(cause: str) -> bool:
    """A cause that is no message on a topic: a request to this product, a timer, a look for what came early."""
    return not cause or cause.startswith(("/api/", "timer:")) or cause in ("resume", "check")


def _attributes(message: IncomingMessage) -> Mapping[str, str]:
    """Id and source, whichever of its two forms the CloudEvent has."""
    texts = dict(message.headers)
    id_ = texts.get("ce_id")
    if id_ is not None:
        return {
            "id": id_.decode("utf-8", "replace"), "source": texts.get("ce_source", b"").decode("utf-8", "replace"),
        }  # fmt: skip
    try:
        envelope, _ = read(message.headers, message.value or b"")
    except (EnvelopeError, ValueError):
        return {}
    return {"id": envelope.id, "source": envelope.source}
