"""The sender: takes notices that are due, hands them to their channel, and writes down what became of them.

Rules of this file
- At least once, under an id that stays: killed between sending and marking, a notice goes out again as the same one.
  What was sent is marked at once, one by one, so that little is under way when a process dies.
- Never for a task that was closed before: a reminder of what is decided makes people stop reading reminders.
- Trouble with a channel (the server is away) is not counted against its notices; they wait, up to `age_ms_max`.
- Given up means failed, with the reason, for a person to see and to send again. Nothing vanishes.
"""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from orchestrator.logs import about
from orchestrator.notices import store
from orchestrator.notices.contract import Channel, Notifier, NotSentError
from orchestrator.notices.plan import OPEN_ONLY
from orchestrator.notices.store import Claimed, NoticeStore, Settled
from orchestrator.notices.texts import Texts
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.store.contract import StoreError

RETRY_MS = 500
CHANNEL_PAUSE_MS = 5_000
TRIM_MS = 60_000
AT_ONCE: dict[Channel, int] = {"mail": 1, "webhook": 8, "event": 8}  # under way; a mail server is spoken to in turn

log = structlog.get_logger("orchestrator.notices")


@dataclass(frozen=True, slots=True)
class Sending:
    """Limits of sending. lease_ms: how long a claim holds; must be more than one attempt may take (attempt_ms)."""

    batch_rows: int = 50
    poll_ms: int = 1_000
    lease_ms: int = 60_000
    attempt_ms: int = 20_000
    attempts_max: int = 8
    retry_ms: int = 5_000
    retry_ms_max: int = 3_600_000
    age_ms_max: int = 259_200_000
    keep_ms: int = 2_592_000_000

    def __post_init__(self) -> None:
        if self.lease_ms <= self.attempt_ms:
            raise ValueError(f"a claim of {self.lease_ms} ms must hold longer than an attempt of {self.attempt_ms} ms")

    def delay_us(self, attempts: int, id_: int) -> int:
        """The pause after so many attempts: doubled each time, spread by a fifth, so that not all come back at once."""
        plain: int = min(self.retry_ms * 2 ** min(attempts - 1, 30), self.retry_ms_max)
        return plain * 1000 + plain * 200 * (zlib.crc32(str(id_).encode()) % 1000) // 1000


class Watching(Protocol):
    """Who counts what a sender does. Nothing here may wait or raise."""

    def settled(self, channel: Channel, outcome: str, waited_seconds: float) -> None:
        """A notice was sent, skipped, failed, or tried in vain (retried)."""

    def tried(self, channel: Channel, error: str, seconds: float) -> None:
        """One attempt; `error`: the class of what went wrong, "" where it went out."""


class Sender:
    """Sends notices over the channels given."""

    watched_by: Watching | None = None

    def __init__(self, store: NoticeStore, texts: Texts, channels: Mapping[Channel, Notifier], limits: Sending) -> None:
        self._store, self._texts, self._channels, self._limits = store, texts, dict(channels), limits
        self._resting: dict[Channel, float] = {}  # channels that are away, until this reading of the monotonic clock
        self._trimmed_at = 0.0
        self.counts = {"sent": 0, "skipped": 0, "failed": 0, "retried": 0}
        self.away: dict[Channel, str] = {}
        self.channels = tuple(channels)

    async def run(self, stopping: Stopping, pulse: Pulse) -> None:
        """Sends until asked to stop; what is under way then is finished and marked."""
        try:
            while not stopping:
                try:
                    more = await self.send(stopping)
                    await self._trim()
                except StoreError as error:
                    if not error.retriable:
                        raise
                    pulse.trouble(f"store: {error}")
                    await stopping.sleep(RETRY_MS)
                    continue
                pulse.beat()
                if not more:
                    await self._rest()
                    await stopping.sleep(self._limits.poll_ms)
        finally:
            await self._rest()

    async def send(self, stopping: Stopping | None = None) -> bool:
        """Sends what is due once; True where there may be more."""
        now = time.monotonic()
        ready = [channel for channel in self._channels if self._resting.get(channel, 0.0) <= now]
        if not ready:
            return False
        claimed = await self._store.claim(self._limits.batch_rows, self._limits.lease_ms * 1000, ready)
        over = now + (self._limits.lease_ms - self._limits.attempt_ms) / 1000
        per_channel: dict[Channel, list[list[Claimed]]] = {}
        for together in _deliveries(claimed):
            per_channel.setdefault(together[0].told.channel, []).append(together)
        await asyncio.gather(
            *(self._channel(channel, waiting, over, stopping) for channel, waiting in per_channel.items())
        )
        return len(claimed) >= self._limits.batch_rows

    async def _channel(
        self, channel: Channel, waiting: Sequence[list[Claimed]], over: float, stopping: Stopping | None
    ) -> None:
        """One channel's deliveries, several at once. What is not begun in time, or in vain, is given back."""
        queue = list(reversed(waiting))

        async def worker() -> None:
            while queue:
                together = queue.pop()
                if (stopping and bool(stopping)) or channel in self.away_now() or time.monotonic() > over:
                    await self._store.settle([_given_back(row) for row in together])
                    continue
                await self._deliver(channel, together)

        await asyncio.gather(*(worker() for _ in range(min(AT_ONCE[channel], len(queue)))))

    def away_now(self) -> set[Channel]:
        """Channels that are not tried for a while."""
        now = time.monotonic()
        return {channel for channel, until in self._resting.items() if until > now}

    async def _deliver(self, channel: Channel, together: Sequence[Claimed]) -> None:
        useless = {row.told.id: why for row in together if (why := self._why_not(row))}
        skipped = [
            Settled(row.told.id, row.attempts, "skipped", useless[row.told.id])
            for row in together
            if row.told.id in useless
        ]
        old = [
            Settled(row.told.id, row.attempts, "failed", "it could not be sent for too long")
            for row in together
            if row.told.id not in useless and row.now - max(row.told.planned_at, 0) > self._limits.age_ms_max * 1000
        ]
        out = {item.id for item in (*skipped, *old)}
        rest = [row for row in together if row.told.id not in out]
        sent = await self._attempt(channel, rest) if rest else []
        # Marked together: a digest that is sent again after a crash must be made of the same rows.
        await self._store.settle([*skipped, *old, *sent])
        planned = {row.told.id: row.now - row.told.planned_at for row in together}
        for item in (*skipped, *old, *sent):
            outcome = "retried" if item.state == "waiting" else item.state
            self.counts[outcome] += 1
            if self.watched_by is not None:
                self.watched_by.settled(channel, outcome, max(planned[item.id], 0) / 1e6)

    async def _attempt(self, channel: Channel, rows: Sequence[Claimed]) -> list[Settled]:
        began, trouble = time.perf_counter(), ""
        try:
            return await self._tried(channel, rows)
        except NotSentError as error:
            trouble = "away" if error.channel_down else "not_sent"
            if error.channel_down:
                self._is_away(channel, error.reason)
                return [_given_back(row, error.reason, CHANNEL_PAUSE_MS * 1000) for row in rows]
            return [self._failed(row, error.reason, retriable=error.retriable) for row in rows]
        except TimeoutError:
            trouble = "timeout"
            return [self._failed(row, f"no answer within {self._limits.attempt_ms} ms", retriable=True) for row in rows]
        except Exception as error:  # a template that is broken, for example: its notices fail, the others go on
            trouble = type(error).__name__
            log.exception("a notice could not be made or sent", channel=channel, **_about(rows[0]))
            return [self._failed(row, f"{type(error).__name__}: {error}"[:300], retriable=True) for row in rows]
        finally:
            if self.watched_by is not None:
                self.watched_by.tried(channel, trouble, time.perf_counter() - began)

    async def _tried(self, channel: Channel, rows: Sequence[Claimed]) -> list[Settled]:
        """One attempt. Raises what the channel raises."""
        told = [row.told for row in rows]
        notice = self._texts.digest(told) if rows[0].digest else self._texts.notice(told[0])
        async with asyncio.timeout(self._limits.attempt_ms / 1000):
            await self._channels[channel].send(notice)
        if self.away.pop(channel, None) is not None:
            log.info("a channel of notices is back", channel=channel)
        return [Settled(row.told.id, row.attempts, "sent") for row in rows]

    def _failed(self, row: Claimed, reason: str, *, retriable: bool) -> Settled:
        if not retriable or row.attempts >= self._limits.attempts_max:
            log.warning("a notice was given up", channel=row.told.channel, reason=reason, **_about(row))
            return Settled(row.told.id, row.attempts, "failed", reason)
        delay = self._limits.delay_us(row.attempts, row.told.id)
        return Settled(row.told.id, row.attempts, "waiting", reason, delay)

    def _is_away(self, channel: Channel, reason: str) -> None:
        if channel not in self.away:
            log.warning("a channel of notices is away", channel=channel, reason=reason)
        self.away[channel] = reason
        self._resting[channel] = time.monotonic() + CHANNEL_PAUSE_MS / 1000

    def _why_not(self, row: Claimed) -> str:
        """Why a notice helps nobody any more, or ""."""
        if row.told.kind not in OPEN_ONLY or row.told.channel == "event":
            return ""  # events are a history: whoever follows them wants all
        if row.closed:
            return f"the task was {row.closed} before this was sent"
        return "its recipient may not decide it any more" if row.barred else ""

    async def _rest(self) -> None:
        for notifier in self._channels.values():
            await notifier.rest()

    async def _trim(self) -> None:
        if time.monotonic() - self._trimmed_at < TRIM_MS / 1000:
            return
        if await self._store.trim(self._limits.keep_ms * 1000) < store.TRIM_ROWS_MAX:
            self._trimmed_at = time.monotonic()  # else there is more: the next round goes on with it


def _about(row: Claimed) -> dict[str, object]:
    return {"notice": row.told.id, **about(row.told.saga_id)}


def _deliveries(claimed: Iterable[Claimed]) -> list[list[Claimed]]:
    """What goes out together: a digest's rows, or one row."""
    found: dict[str, list[Claimed]] = {}
    for row in claimed:
        found.setdefault(row.digest or f"#{row.told.id}", []).append(row)
    return list(found.values())


def _given_back(row: Claimed, reason: str = "", delay_us: int = 0) -> Settled:
    return Settled(row.told.id, row.attempts, "waiting", reason, delay_us, given_back=True)
