"""Stuck sagas by their cause: same definition, place and reason, whatever numbers and ids the reason holds.

Rules of this file
- Everything is read from the streams of the stuck sagas, folded by the kernel; nothing is kept.
- A page looks at the newest STREAMS_MAX stuck sagas; who acts on a cause sees all of it, up to SCANNED_MAX, and is told
  where there are more.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from orchestrator.api.reading import Reading
from orchestrator.api.times import instant
from orchestrator.api.views import Actor, SagaView
from orchestrator.kernel.api import fold
from orchestrator.kernel.graph import node_path
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State, Stuck
from orchestrator.pages.drawing.standing import stuck_at
from orchestrator.pages.formats import decimal_of, is_currency
from orchestrator.store.contract import StoredRecord
from orchestrator.store.operations import STREAMS_MAX, OperationQueries

STREAM_RECORDS_MAX = 1_000  # a longer one is grouped by its place alone
SCANNED_MAX = 5_000
TREND_POINTS = 12
_DIGITS = re.compile(r"\d+|[0-9a-f]{8}-[0-9a-f-]{27,}")


@dataclass(frozen=True, slots=True)
class StuckSaga:
    """A stuck place of a saga, since when. `path`: its node. `state`: None where its stream is too long to fold."""

    saga: SagaView
    place: str
    path: str
    version: int
    reason: str
    since: datetime
    state: State | None = None


@dataclass(slots=True)
class Cause:
    """Sagas that are stuck alike: same definition, place and reason. `held`: amounts of their start, by currency."""

    key: str
    name: str
    place: str
    path: str
    cause: str
    reason: str
    sagas: list[StuckSaga] = field(default_factory=list[StuckSaga])
    held: dict[str, Decimal] = field(default_factory=dict[str, Decimal])

    @property
    def first(self) -> datetime:
        """When the first of them got stuck."""
        return min(one.since for one in self.sagas)

    @property
    def last(self) -> datetime:
        """When the last of them did."""
        return max(one.since for one in self.sagas)

    @property
    def is_undo(self) -> bool:
        """It is an undo that cannot go on."""
        return self.place.startswith("~")

    @property
    def title(self) -> str:
        """Definition and place, in words."""
        return f"{self.name} · {self.path.rpartition('/')[2] or 'the saga itself'}"

    @property
    def versions(self) -> Mapping[int, int]:
        """How many of each version of the definition."""
        return Counter(one.saga.version for one in self.sagas)

    def trend(self, now: datetime) -> Trend:
        """How the sagas got stuck over time, from the first one until now."""
        width = max((now - self.first) / TREND_POINTS, timedelta(seconds=1))
        points = Counter(min(int((one.since - self.first) / width), TREND_POINTS - 1) for one in self.sagas)
        recent = sum(1 for one in self.sagas if one.since > now - timedelta(hours=1))
        before = sum(1 for one in self.sagas if now - timedelta(hours=2) < one.since <= now - timedelta(hours=1))
        return Trend(tuple(points[n] for n in range(TREND_POINTS)), recent, before)


@dataclass(frozen=True, slots=True)
class Trend:
    """Sagas that got stuck, by equal parts of the time since the first; in the last hour, and in the one before."""

    points: tuple[int, ...]
    recent: int
    before: int

    @property
    def words(self) -> str:
        """Whether it goes on."""
        if not self.recent:
            return "none in the last hour"
        if not self.before:
            return f"{self.recent} in the last hour, none in the hour before"
        way = "rising" if self.recent > self.before else "falling" if self.recent < self.before else "steady"
        return f"{self.recent} in the last hour, {self.before} in the hour before: {way}"


class Causes:
    """Reads them."""

    def __init__(self, read: Reading, operations: OperationQueries) -> None:
        self._read, self._operations = read, operations

    async def newest(self, actor: Actor) -> tuple[Sequence[Cause], bool]:
        """The newest STREAMS_MAX stuck sagas by their cause, the largest first; and whether these are all of them."""
        causes: dict[str, Cause] = {}
        following = await self._page(actor, causes, "")
        return _ordered(causes), not following

    async def one(self, actor: Actor, key: str) -> tuple[Cause | None, bool]:
        """One cause with all its sagas among the newest SCANNED_MAX stuck ones; and whether these are all."""
        causes: dict[str, Cause] = {}
        following = ""
        for _ in range(SCANNED_MAX // STREAMS_MAX):
            following = await self._page(actor, causes, following)
            if not following:
                break
        return next((cause for cause in causes.values() if cause.key == key), None), not following

    async def _page(self, actor: Actor, causes: dict[str, Cause], cursor: str) -> str:
        """Groups one page of stuck sagas; gives the cursor of the next."""
        page = await self._read.sagas(
            actor.tenant, name=None, business_key=None, phase=None, waiting_for=None, stuck=True, limit=STREAMS_MAX,
            cursor=cursor,
        )  # fmt: skip
        short = [saga.saga_id for saga in page.items if saga.record <= STREAM_RECORDS_MAX]
        streams = await self._operations.streams(actor.tenant, short)
        await asyncio.to_thread(_grouped, causes, page.items, streams)  # beside the event loop: others go on
        return page.next


def _ordered(causes: Mapping[str, Cause]) -> list[Cause]:
    return sorted(causes.values(), key=lambda cause: (-len(cause.sagas), cause.first))


def _grouped(
    causes: dict[str, Cause], sagas: Sequence[SagaView], streams: Mapping[str, Sequence[StoredRecord]]
) -> None:
    for saga in sagas:
        stored = streams.get(saga.saga_id)
        if stored:
            state = fold(Record(one.type, one.activity, one.data) for one in stored)
            _group(causes, saga, state, {one.version: one.recorded_at for one in stored})
        else:
            place = saga.waiting_for.removeprefix("operator ")
            unread = StuckSaga(saga, place, node_path(place[1:]), 0, "", saga.updated_at)
            _cause(causes, saga.name, unread, "").sagas.append(unread)


def _group(causes: dict[str, Cause], saga: SagaView, state: State, written: Mapping[int, int]) -> None:
    for place, stuck in state.stuck.items():
        since = instant(written.get(stuck.version, 0))
        one = StuckSaga(saga, place, stuck_at(state, place), stuck.version, stuck.reason, since, state)
        cause = _cause(causes, saga.name, one, _class_of(stuck))
        cause.sagas.append(one)
        for currency, amount in held(state.start_data):
            cause.held[currency] = cause.held.get(currency, Decimal(0)) + amount


def _cause(causes: dict[str, Cause], name: str, one: StuckSaga, class_: str) -> Cause:
    place = one.place[:1] + one.path
    alike = _DIGITS.sub("#", one.reason.splitlines()[0] if one.reason else "")
    key = "\x1f".join((name, place, class_, alike))
    return causes.setdefault(key, Cause(_short(key), name, place, one.path, class_, one.reason))


def _class_of(stuck: Stuck) -> str:
    words = {
        "function": "a function of the saga raised", "refused": "the participant refused",
        "exhausted": "no more attempts", "unknown": "outcome unknown", "never": "the participant can never know",
        "undo": "an undo did not succeed", "effect_found": "an effect was found that should not be there",
        "size": "the message is too large",
    }  # fmt: skip
    return words.get(stuck.cause, stuck.cause.replace("_", " "))


def _short(key: str) -> str:
    """A name for a group in addresses: the same group has the same name in every process."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def held(start: Any) -> list[tuple[str, Decimal]]:
    """The amount that a start message names together with its currency."""
    if not isinstance(start, Mapping):
        return []
    currency = start.get("currency")
    amount = next((decimal_of(start[name]) for name in ("amount", "total", "dispute_amount") if name in start), None)
    return [(str(currency), amount)] if amount is not None and is_currency(currency) else []
