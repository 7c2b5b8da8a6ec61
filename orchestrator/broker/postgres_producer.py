"""Appending to the log in PostgreSQL: one statement, one commit for as many messages as wait.

The batch is encoded before the statement is sent, so the heads stay locked only while the server works and commits.
"""

import random
from collections.abc import Sequence

from orchestrator.broker.batching import Batcher
from orchestrator.broker.contract import (
    BrokerError,
    BrokerUnavailableError,
    OutgoingMessage,
    SendError,
    too_large,
)
from orchestrator.broker.partition import partition_of
from orchestrator.broker.postgres_database import Database, Place, Topic
from orchestrator.broker.postgres_hints import Hints
from orchestrator.broker.settings import BrokerSettings
from orchestrator.store.headers import pack

_APPEND_MESSAGES_MAX = 2_000
_WAITING_MESSAGES_MAX = 100_000


class _Statement:
    """The columns of one append, filled message by message."""

    def __init__(self) -> None:
        self.amounts: dict[Place, int] = {}
        self.topic_ids: list[int] = []
        self.partitions: list[int] = []
        self.places: list[int] = []
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.headers: list[bytes] = []
        self.indexes: list[int] = []
        self.bytes = 0

    def add(self, index: int, place: Place, message: OutgoingMessage) -> None:
        amount = self.amounts.get(place, 0)
        self.amounts[place] = amount + 1
        self.topic_ids.append(place[0])
        self.partitions.append(place[1])
        self.places.append(amount)
        self.keys.append(message.key)
        self.values.append(message.value)
        headers = pack(message.headers)
        self.headers.append(headers)
        self.indexes.append(index)
        self.bytes += len(headers) + len(message.value or b"")

    def arguments(self) -> tuple[list[object], ...]:
        """In the order of the query's parameters."""
        parts = list(self.amounts.items())
        return (
            [place[0] for place, _ in parts],
            [place[1] for place, _ in parts],
            [amount for _, amount in parts],
            list(self.topic_ids),
            list(self.partitions),
            list(self.places),
            list(self.keys),
            list(self.values),
            list(self.headers),
        )


class PostgresProducer:
    """A ``Producer`` on tables."""

    def __init__(self, database: Database, hints: Hints, settings: BrokerSettings) -> None:
        """The connections belong to the broker."""
        self._database = database
        self._hints = hints
        self._settings = settings
        # A statement is built in memory here and in the server; a few of the largest messages are enough for one.
        self._statement_bytes = max(settings.message_bytes_max, settings.send_batch_bytes * 16)
        self._batcher = Batcher(
            self._append,
            linger_ms=settings.send_linger_ms,
            append_messages_max=_APPEND_MESSAGES_MAX,
            waiting_messages_max=_WAITING_MESSAGES_MAX,
        )

    async def start(self) -> None:
        """See ``Producer``."""
        await self._database.topics(["no such topic"])  # any question will do: is there a database with our tables?

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[SendError | None]:
        """See ``Producer``."""
        return await self._batcher.send(messages)

    async def stop(self) -> None:
        """See ``Producer``."""
        await self._batcher.close(self._settings.stop_timeout_ms)

    async def _append(self, messages: Sequence[OutgoingMessage]) -> list[SendError | None]:
        results: list[SendError | None] = [None] * len(messages)
        try:
            topics = await self._database.topics({message.topic for message in messages})
        except BrokerError as error:
            return [_failure(error)] * len(messages)
        statement = _Statement()
        failure: SendError | None = None
        keyless: dict[int, int] = {}
        for index, message in enumerate(messages):
            refusal = too_large(message, self._settings.message_bytes_max)
            topic = topics.get(message.topic)
            if refusal is not None:
                results[index] = refusal
            elif topic is None:
                reason = f"the log has no topic {message.topic!r}; topics are made by ensure_topics"
                results[index] = SendError("unknown_topic", reason, retriable=True)
            else:
                if statement.bytes >= self._statement_bytes:
                    failure = await self._carry_out(statement, results, failure)
                    statement = _Statement()
                statement.add(index, (topic.topic_id, _partition(message, topic, keyless)), message)
        await self._carry_out(statement, results, failure)
        return results

    async def _carry_out(
        self, statement: _Statement, results: list[SendError | None], failed_before: SendError | None
    ) -> SendError | None:
        """Append, unless an earlier part of the batch failed: later messages must not overtake it."""
        if not statement.indexes:
            return failed_before
        failure = failed_before
        if failure is None:
            try:
                rows = await self._database.rows("append", *statement.arguments())
                if rows[0][0] != len(statement.indexes):
                    # Heads are never deleted, so this is a database that was made anew under us.
                    raise BrokerError(f"{rows[0][0]} of {len(statement.indexes)} messages found their partition")
            except BrokerError as error:
                failure = _failure(error)
        if failure is None:
            self._hints.poke({str(topic_id) for topic_id, _ in statement.amounts})
            return None
        for index in statement.indexes:
            results[index] = failure
        return SendError("held_back", f"an earlier part of the batch failed: {failure.reason}", retriable=True)


def _partition(message: OutgoingMessage, topic: Topic, keyless: dict[int, int]) -> int:
    if message.key is not None:
        return partition_of(message.key, topic.partitions)
    # One partition per batch, as Kafka's clients do: fewer heads to lock, and even over time.
    return keyless.setdefault(topic.topic_id, random.randrange(topic.partitions))  # noqa: S311 spread, not secrecy


def _failure(error: BrokerError) -> SendError:
    """Retriable in any case: what an operator must mend is not the message's fault."""
    code = "unavailable" if isinstance(error, BrokerUnavailableError) else "not_allowed"
    return SendError(code, f"{error}. It may have been appended all the same", retriable=True)
