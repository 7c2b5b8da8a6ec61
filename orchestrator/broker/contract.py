"""The broker's port: what coordinator, relay and participants may expect of a log of messages.

Rules of this file: no driver is imported here, and every promise below is kept by each implementation, which one
conformance suite (``tests/contracts/test_broker.py``) checks. The promises in short:

1. A topic has a fixed number of partitions; one key always lands in one partition; within it order is offset order.
2. At least once: a message that ``send`` accepted is delivered again after any crash until the *caller's* store says
   that its position has passed. Duplicates happen, loss and overtaking within a partition do not.
3. Progress belongs to the caller. ``commit`` is a cache for people who look at lag, never read back as truth.
4. A consumer says which partitions it has (``assignment``) and counts every change (``generation``). What was fetched
   under an older generation is the new owner's business; keeping it out of the store is the caller's fence.
5. Append times are the broker's own, so that lateness is judged by when a message arrived, not when it was read.

Times are integers of microseconds since 1970 in UTC; sizes are bytes as ``message_bytes`` counts them.
"""

import importlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, cast

from orchestrator.broker.settings import BrokerSettings
from orchestrator.messages.value import value

Assignment: TypeAlias = tuple[str, int]
"""One partition: topic and partition number."""

PositionSource: TypeAlias = Callable[[frozenset[Assignment]], Awaitable[Mapping[Assignment, int | None]]]
"""Where to go on reading, asked for with every new assignment: the next offset wanted, or None for a first start."""

Headers: TypeAlias = tuple[tuple[str, bytes], ...]
"""In order, with duplicates, as the sender gave them."""


@value
class OutgoingMessage:
    """A message to send. ``key`` decides the partition; without one the broker chooses."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


@value
class IncomingMessage:
    """A message as the log holds it. ``appended_at`` is the broker's clock in microseconds since 1970, UTC."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    appended_at: int


@value
class Looked:
    """What a look into the log has found. ``partitions``: those that were read; ``read``: how many messages that was.

    ``is_all``: everything in the time asked for was read; else the limits were reached first.
    """

    partitions: tuple[int, ...]
    found: tuple[IncomingMessage, ...]
    read: int
    is_all: bool


@value
class TopicSpec:
    """A topic the product needs.

    partitions: None takes the broker's default (``BrokerSettings.partitions_default``). Never change it for a topic in
    use: keys would move to other partitions and overtake themselves.
    retention_ms: how long messages are kept at least, milliseconds; None takes the broker's default.
    """

    name: str
    partitions: int | None = None
    retention_ms: int | None = None


Wanted: TypeAlias = Callable[[IncomingMessage], bool]
"""Which messages a look into the log gives back."""


class BrokerError(Exception):
    """Anything the broker refuses or cannot do. ``retriable`` says whether the same call may succeed later."""

    retriable: bool = False


class BrokerUnavailableError(BrokerError):
    """The broker cannot be reached or does not answer in time. Nobody needs to act but the network: try again."""

    retriable = True


class BrokerSetupError(BrokerError):
    """A topic, a setting or a URL is not as this product needs it. An operator must act."""


class ConsumerFencedError(BrokerError):
    """Another process joined the group under the same instance id; this one must stop."""


class PositionLostError(BrokerError):
    """The stored position is outside what the log still holds: messages are gone, and skipping them is no answer."""

    def __init__(self, topic: str, partition: int, position: int, log_start: int, log_end: int) -> None:
        """Positions are offsets; ``log_end`` is the next offset to be written."""
        self.topic, self.partition = topic, partition
        self.position, self.log_start, self.log_end = position, log_start, log_end
        if position < log_start:
            cause = f"{log_start - position} messages were deleted by the topic's retention before they were read"
            act = "Restore them or accept the loss"
        else:
            cause = "the log is shorter than what was already read: the topic was created anew or lost its tail"
            act = "Find out what replaced the log"
        super().__init__(
            f"{topic}[{partition}]: stored position {position}, but the log holds {log_start} to {log_end}. "
            f"Likely {cause}. {act}, then set the stored position of this partition by hand: "
            "nothing is ever skipped by itself."
        )


class SendError(BrokerError):
    """Why one message of a batch was not accepted. A value in ``send``'s result; it may be raised as well.

    code: one word per class of error: ``too_large``, ``unknown_topic``, ``not_allowed``, ``unavailable``, ``timeout``
    (outcome unknown), ``held_back`` (an earlier message of its partition failed), ``refused``.
    """

    def __init__(self, code: str, reason: str, *, retriable: bool) -> None:
        """``reason`` is for people."""
        self.code, self.reason, self.retriable = code, reason, retriable
        super().__init__(f"{code}: {reason}")


class Producer(Protocol):
    """Appends batches. May be used by several tasks at once; each ``send`` keeps its own order."""

    async def start(self) -> None:
        """Connect. Raises BrokerUnavailableError when nobody answers."""

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[SendError | None]:
        """Append all messages and say for each, in the same order, whether it is durable (None) or why not.

        Messages with the same key keep their order. When one fails with ``retriable``, all later ones of its partition
        in this batch fail too (``held_back``), so that sending the failed ones again cannot reorder. A message that is
        too large fails alone. After ``timeout`` the message may still have been appended: sending it again is safe for
        readers that drop duplicates.
        """

    async def stop(self) -> None:
        """Finish what is under way, for a bounded time, and disconnect."""


class Consumer(Protocol):
    """Reads its share of some topics as a member of a group. One task calls ``fetch``."""

    async def start(self) -> None:
        """Join the group. Raises BrokerUnavailableError, or BrokerSetupError for a topic that does not exist."""

    async def fetch(self, max_messages: int, wait_ms: int) -> list[IncomingMessage]:
        """The next messages, in offset order per partition; empty after about ``wait_ms`` milliseconds without any.

        They belong to the ``generation`` read right after this returns, by the task that awaited it: await a fetch
        directly, since one that runs in a task of its own hands its result over with a gap. Cancelling loses nothing.

        Raises PositionLostError when the position source names an offset the log no longer holds,
        BrokerUnavailableError (call again later) and ConsumerFencedError (stop).
        """

    def assignment(self) -> frozenset[Assignment]:
        """The partitions this consumer reads now; empty while the group is being rearranged."""

    def settled(self) -> bool:
        """The group has given this member the share that it is due, and ``fetch`` reads there.

        False while the group is rearranged, while partitions still belong to a member that may be dead, and before
        the first positions are known: then nothing can be read, however healthy this process looks. True for a member
        that is due nothing, because others have all partitions.
        """

    def generation(self) -> int:
        """A count that grows with every change of assignment. What an older generation fetched is to be dropped."""

    def positions(self) -> dict[Assignment, int]:
        """For each assigned partition the offset of the next message ``fetch`` may return.

        All before it has been returned, or holds no message (markers of transactions, compacted records): so it can
        be ahead of the last message's offset + 1, and reaches ``end_offsets`` even where the tail holds no message.
        """

    async def end_offsets(self) -> dict[Assignment, int]:
        """For each assigned partition the next offset to be written, as of now: all acknowledged before is below."""

    async def commit(self, positions: Mapping[Assignment, int]) -> None:
        """Publish progress (next offsets) for lag monitors. Best effort: partitions lost meanwhile are ignored."""

    async def pause(self) -> None:
        """Let ``fetch`` return nothing until ``resume``, staying in the group. Survives a change of assignment."""

    async def resume(self) -> None:
        """Take up where ``pause`` stopped; nothing is lost or reordered."""

    async def stop(self) -> None:
        """Leave the group at once, so that others take over without waiting for a time-out. Idempotent."""


class Broker(Protocol):
    """A connection to one log. Makes producers and consumers and looks after topics."""

    def producer(self, name: str) -> Producer:
        """A producer; ``name`` shows up in the broker's own logs and metrics."""

    def consumer(self, group: str, topics: Sequence[str], positions: PositionSource) -> Consumer:
        """A member of ``group`` for ``topics``. Each new assignment starts where ``positions`` says.

        None there is a first start: read from the earliest message that is kept.
        """

    async def ensure_topics(self, topics: Sequence[TopicSpec]) -> None:
        """Create the topics that are missing and check the others: partitions, append times, largest message.

        Raises BrokerSetupError naming the topic, what it has and what is needed. Nothing existing is ever changed.
        """

    async def look(
        self, topic: str, since: int, until: int, wanted: Wanted, *, key: bytes | None, messages_max: int, wait_ms: int
    ) -> Looked:
        """Read what the log holds from ``since`` to ``until`` (microseconds since 1970, UTC) and give what is wanted.

        For people who ask where a message lies: belongs to no group, moves no position, reads no more than
        ``messages_max`` messages in about ``wait_ms`` milliseconds. ``key``: only in its partition; None: in all.
        Raises BrokerUnavailableError, or BrokerSetupError for a topic that does not exist.
        """

    async def close(self) -> None:
        """Stop every producer and consumer made here and disconnect. Idempotent."""


_IMPLEMENTATIONS = {
    "kafka": "orchestrator.broker.kafka",
    "postgres": "orchestrator.broker.postgres",
    "postgresql": "orchestrator.broker.postgres",
}


def open_broker(url: str, *, settings: BrokerSettings | None = None) -> Broker:
    """The broker that ``url`` names: ``kafka://host:port[,host:port]`` or ``postgresql://...``; connects on first use.

    Implementations are looked up by name, so that the port depends on no driver. Raises BrokerSetupError for a scheme
    that has none.
    """
    scheme, separator, _ = url.partition("://")
    module_name = _IMPLEMENTATIONS.get(scheme) if separator else None
    if module_name is None:
        # The URL may hold a password: only its scheme is shown.
        raise BrokerSetupError(
            f"broker URL starts with {scheme[:20]!r}; it must start with one of "
            + ", ".join(f"{name}://" for name in sorted(_IMPLEMENTATIONS))
        )
    connect = importlib.import_module(module_name).connect
    return cast("Broker", connect(url, settings or BrokerSettings()))


# What a message costs besides its bytes, as Kafka's record format has it at most: a batch of one (61), lengths and
# deltas of a record (36), two lengths per header. The same sum everywhere, so that a message accepted by one broker
# is accepted by the other.
_BYTES_PER_MESSAGE = 97
_BYTES_PER_HEADER = 10


def message_bytes(message: OutgoingMessage) -> int:
    """The size that limits count: key, value, headers and at most what framing adds, in bytes."""
    size = _BYTES_PER_MESSAGE
    if message.key is not None:
        size += len(message.key)
    if message.value is not None:
        size += len(message.value)
    for name, content in message.headers:
        # A non-ASCII name takes up to four bytes a character; exactness would cost an encode per header.
        size += _BYTES_PER_HEADER + (len(name) if name.isascii() else len(name.encode())) + len(content)
    return size


def too_large(message: OutgoingMessage, message_bytes_max: int) -> SendError | None:
    """The refusal for a message over the limit (bytes), or None."""
    size = message_bytes(message)
    if size <= message_bytes_max:
        return None
    return SendError(
        "too_large",
        f"a message for {message.topic} has {size} bytes with its framing, more than message_bytes_max "
        f"= {message_bytes_max}. Send less, or send a reference to where the data lies.",
        retriable=False,
    )
