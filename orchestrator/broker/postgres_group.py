"""Who reads which partition: membership of a consumer group, kept in two tables without a coordinator.

How it works: each member says every second that it lives (a *beat*), looks at the living members and at who owns what,
and works out its own quota. It gives up what it has too much, and claims what nobody alive has. So partitions move one
by one when somebody joins, leaves or dies, and no member waits for another one's answer.

What it does not promise: that a partition has never two readers for a moment (a member that froze still believes in its
lease when it wakes). It notices with its next beat or when its own clock says that the lease is over; the fence against
such a reader is in the caller's store.
"""

import asyncio
import hashlib
import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import asyncpg

from orchestrator.broker.contract import BrokerError, BrokerUnavailableError, ConsumerFencedError
from orchestrator.broker.postgres_database import Database, Place, Topic
from orchestrator.broker.postgres_hints import Hints
from orchestrator.broker.settings import BrokerSettings

logger = logging.getLogger(__name__)

_ROUNDS_MAX = 3  # claims that lost a race are tried again in the same beat, then in the next one


@dataclass(frozen=True, slots=True)
class Change:
    """What a member should do now."""

    release: tuple[Place, ...]
    claim: tuple[Place, ...]
    due: int = field(default=0, compare=False)  # how many partitions this member shall have in the end


def share(
    me: uuid.UUID,
    members: Mapping[uuid.UUID, Sequence[int]],
    partitions: Mapping[int, int],
    owners: Mapping[Place, uuid.UUID],
) -> Change:
    """What ``me`` should release and claim, by topic, so that shares differ by one at most and little moves.

    members: the living ones (``me`` among them) and their topic ids. partitions: per topic id. owners: who has a
    partition now, dead ones included. Every member computes this by itself; views may differ for a moment, so a claim
    is only a wish, and a surplus is given up with the next beat.
    """
    release: list[Place] = []
    claim: list[Place] = []
    due = 0
    for topic_id in sorted(members[me]):
        readers = [member for member, topics in members.items() if topic_id in topics]
        owned: dict[uuid.UUID, list[Place]] = {member: [] for member in readers}
        free: list[Place] = []
        for number in range(partitions[topic_id]):
            place = (topic_id, number)
            owner = owners.get(place)
            if owner in owned:
                owned[owner].append(place)
            else:
                free.append(place)  # nobody has it, or somebody dead; the claim itself makes sure
        base, extra = divmod(partitions[topic_id], len(readers))
        # Who has most keeps one more; among equals a hash decides, another one for each topic, so that the remainders
        # of many topics do not all fall to the same member.
        order = sorted(readers, key=lambda member: (-len(owned[member]), _tie(member, topic_id)))
        quota = base + (order.index(me) < extra)
        due += quota
        mine = owned[me]
        release += mine[quota:]
        claim += free[: max(0, quota - len(mine))]
    return Change(tuple(release), tuple(claim), due)


def _tie(member: uuid.UUID, topic_id: int) -> bytes:
    return hashlib.blake2b(member.bytes + topic_id.to_bytes(4, "big"), digest_size=8).digest()


class Membership:
    """One consumer's place in its group. Beats in a task of its own from ``join`` to ``leave``."""

    def __init__(
        self, database: Database, hints: Hints, group: str, topics: Sequence[Topic], settings: BrokerSettings
    ) -> None:
        """Nothing is written before ``join``."""
        self._database = database
        self._hints = hints
        self._group = group
        self._partitions = {topic.topic_id: topic.partitions for topic in topics}
        self._settings = settings
        self._me = uuid.uuid4()
        self._lease_until = 0.0  # by our own monotonic clock, counted from before the beat was sent
        self._beating: asyncio.Task[None] | None = None
        self._nudged = asyncio.Event()
        self._failure: BrokerError | None = None
        self._leaving = False
        self._due = -1  # partitions, by the last look; -1: never looked
        self.generation = 0
        self.owned: frozenset[Place] = frozenset()
        self.changed = asyncio.Event()
        """Set after every beat; whoever waits clears it."""

    async def join(self) -> None:
        """Become a member and take what is free. Raises BrokerUnavailableError."""
        instance = self._settings.instance_id
        if instance is not None:
            await self._database.rows("take_place", self._group, self._me, instance)
        await self._beat()
        self._hints.subscribe(self._nudged, [self._key()])
        self._hints.poke([self._key()])  # the others shall look now, not with their next beat
        self._beating = asyncio.create_task(self._keep_beating(), name=f"broker-beat-{self._group}")

    async def leave(self) -> None:
        """Give everything up at once. Idempotent; a database that is away is left to the lease."""
        self._leaving = True
        self._own(frozenset())
        self._hints.unsubscribe(self._nudged)
        if self._beating is not None:
            # Not cancelled: its statement would go on all the same, and could join us again after we left.
            self._nudged.set()
            await asyncio.wait({self._beating}, timeout=self._settings.stop_timeout_ms / 1000)
            self._beating.cancel()
        try:
            async with asyncio.timeout(self._settings.stop_timeout_ms / 1000):
                await self._database.rows("leave", self._group, self._me)
            self._hints.poke([self._key()])
        except (TimeoutError, BrokerError) as error:
            logger.warning("group %s: left without saying goodbye: %s", self._group, error)

    def check(self) -> bool:
        """Whether what we own is still ours by our own clock; else it is given up until the next beat.

        Raises the error that ended the membership, if one did.
        """
        if self._failure is not None:
            raise self._failure
        if time.monotonic() < self._lease_until:
            return True
        self._own(frozenset())
        self._nudged.set()
        return False

    @property
    def complete(self) -> bool:
        """It has all that it is due, and the lease on it."""
        return 0 <= self._due <= len(self.owned) and self._failure is None and time.monotonic() < self._lease_until

    async def report(self, positions: Mapping[Place, int]) -> None:
        """Store progress, where we are still the owner."""
        places = sorted(positions)
        await self._database.rows(
            "report",
            self._group,
            self._me,
            [topic_id for topic_id, _ in places],
            [number for _, number in places],
            [positions[place] for place in places],
        )

    def _key(self) -> str:
        return f"g:{self._group}"

    async def _keep_beating(self) -> None:
        interval_s = self._settings.postgres_heartbeat_ms / 1000
        while self._failure is None:
            try:
                async with asyncio.timeout(interval_s):
                    await self._nudged.wait()
            except TimeoutError:
                pass
            if self._leaving:
                return
            self._nudged.clear()
            try:
                await self._beat()
            except BrokerUnavailableError as error:
                logger.warning("group %s: cannot say that this member lives: %s", self._group, error)
                await asyncio.sleep(min(interval_s, 0.2))
            except BrokerError as error:
                self._failure = error
            except Exception as error:  # a dead loop in a healthy process would be worse: fetch shall raise it
                logger.exception("group %s: the membership failed", self._group)
                self._failure = BrokerError(f"group {self._group}: the membership failed: {error!r}")
            if self._failure is not None:
                self._own(frozenset())
            self.changed.set()

    async def _beat(self) -> None:
        sent_at = time.monotonic()
        topic_ids = list(self._partitions)
        lease_ms = self._settings.postgres_lease_ms
        try:
            await self._database.rows("beat", self._group, self._me, self._settings.instance_id, topic_ids, lease_ms)
        except BrokerError as error:
            if isinstance(error.__cause__, asyncpg.UniqueViolationError):
                raise ConsumerFencedError(
                    f"group {self._group}: another process joined as instance {self._settings.instance_id!r}; this one "
                    "must stop. Give each running process an instance id of its own, or none."
                ) from error
            raise
        self._lease_until = sent_at + lease_ms / 1000
        for _ in range(_ROUNDS_MAX):
            if await self._adjust(topic_ids):
                break

    async def _adjust(self, topic_ids: list[int]) -> bool:
        """Bring what we own in line with our quota; False when a claim lost a race and should be tried again."""
        members = {row["member_id"]: row["topic_ids"] for row in await self._database.rows("members", self._group)}
        if self._me not in members:
            return True  # the lease is over already: the next beat joins again
        rows = await self._database.rows("ownership", self._group, topic_ids)
        owners = {(row["topic_id"], row["partition"]): row["member_id"] for row in rows}
        change = share(self._me, members, self._partitions, owners)
        mine = {place for place, owner in owners.items() if owner == self._me}
        if change.release:
            # First stop delivering, then let go.
            self._own(frozenset(mine - set(change.release)))
            await self._database.rows("release", self._group, self._me, *_columns(change.release))
            self._hints.poke([self._key()])
        taken: set[Place] = set()
        if change.claim:
            rows = await self._database.rows("claim", self._group, self._me, *_columns(change.claim))
            taken = {(row["topic_id"], row["partition"]) for row in rows}
        self._due = change.due
        self._own(frozenset((mine - set(change.release)) | taken))
        return len(taken) == len(change.claim)

    def _own(self, places: frozenset[Place]) -> None:
        if self._leaving:
            places = frozenset()  # a beat that was under way may still bring something
        if places != self.owned:
            self.owned = places
            self.generation += 1
            self.changed.set()


def _columns(places: Sequence[Place]) -> tuple[list[int], list[int]]:
    return [topic_id for topic_id, _ in places], [number for _, number in places]
