"""Hints between the loops of one process: "look now" instead of at the next poll.

Rules of this file
- A hint may be lost and changes nothing but latency: polling is the truth. So no hint is sent inside a transaction.
- Instants are microseconds of the database's clock; `DbClock` carries it on between two readings.
"""

from __future__ import annotations

import asyncio
import time

KEPT_NS = 1_000_000_000


class Hint:
    """A wake-up for one loop. Giving it many times wakes once."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def give(self) -> None:
        """Wakes the loop, or lets its next wait return at once."""
        self._event.set()

    @property
    def given(self) -> bool:
        """A hint waits to be taken."""
        return self._event.is_set()

    async def wait(self, ms_max: float) -> bool:
        """Returns when hinted, or after `ms_max` milliseconds; True where it was hinted. Takes the hint."""
        if not self._event.is_set() and ms_max > 0:
            try:
                async with asyncio.timeout(ms_max / 1000):
                    await self._event.wait()
            except TimeoutError:
                return False
        hinted = self._event.is_set()
        self._event.clear()
        return hinted


class DbClock:
    """The database's clock as last read, carried on by this machine's monotonic one.

    The estimate is never ahead of the database (the reading is older than its arrival), so a partition that is read up
    to an end asked for after this instant has been read up to this instant.
    """

    def __init__(self) -> None:
        self._now = 0
        self._read_at = 0

    @property
    def known(self) -> bool:
        """False until the first reading."""
        return self._now > 0

    def observe(self, now: int) -> None:
        """Takes a reading, microseconds; 0 is none. Within a second the one counts that took least time to come."""
        if not now:
            return
        read_at = time.monotonic_ns()
        if now >= self.now() or read_at - self._read_at > KEPT_NS:
            self._now, self._read_at = now, read_at

    def now(self) -> int:
        """The estimate, microseconds; 0 before the first reading."""
        return self._now + (time.monotonic_ns() - self._read_at) // 1000 if self._now else 0


class Hints:
    """All hints of one process."""

    def __init__(self) -> None:
        self.clock = DbClock()
        self.checks = Hint()
        self.resumes = Hint()
        self.timers = Hint()
        self._timer_due = 0  # the earliest timer that this process knows of, microseconds; 0: none
        self._timers_wake_at = 0  # when the timer loop looks next

    def timer_set(self, due: int) -> None:
        """A timer was committed; wakes the timer loop where it is due before the loop would look anyway."""
        if not self._timer_due or due < self._timer_due:
            self._timer_due = due
        if due < self._timers_wake_at:
            self.timers.give()

    def timer_pause_ms(self, poll_ms: float, soon_ms: float) -> float:
        """How long the timer loop may sleep: until the earliest timer known here (and `soon_ms`), at most one poll."""
        now = self.clock.now()
        if self._timer_due <= now:
            self._timer_due = 0  # it was just looked for
        left_ms = (self._timer_due - now) / 1000 + soon_ms if self._timer_due and now else poll_ms
        pause_ms = max(1.0, min(poll_ms, left_ms))
        self._timers_wake_at = now + int(pause_ms * 1000)
        return pause_ms
