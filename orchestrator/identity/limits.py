"""How often somebody may get it wrong: failed attempts by address and by account, in bounded memory.

Rules of this file
- Only failures count. Whoever shows a good key or token is let in, whoever else tries from the same address.
- A window is a count that runs down evenly: `burst` at once, all forgotten after `seconds`. What was used longest ago
  makes room for what is new, so that many addresses cost no more memory than `entries_max`.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

ENTRIES_MAX = 20_000


class Window:
    """Counts by name. `now` in seconds, monotonic."""

    def __init__(
        self,
        burst: int,
        seconds: float,
        *,
        entries_max: int = ENTRIES_MAX,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.burst, self.seconds = burst, seconds
        self._entries_max, self._now = entries_max, now
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # name to (level, when it was that)

    def __len__(self) -> int:
        return len(self._levels)

    def add(self, name: str) -> None:
        """One more."""
        self._levels[name] = (self._level(name) + 1, self._now())
        self._levels.move_to_end(name)
        while len(self._levels) > self._entries_max:
            self._levels.popitem(last=False)

    def wait_seconds(self, name: str) -> int:
        """How long until one more is let pass; 0: now."""
        over = self._level(name) + 1 - self.burst
        return math.ceil(over * self.seconds / self.burst) if over > 0 else 0

    def _level(self, name: str) -> float:
        level, then = self._levels.get(name, (0.0, 0.0))
        return max(0.0, level - (self._now() - then) * self.burst / self.seconds)


class Attempts:
    """Failed attempts to be somebody: by (account, address), by account from everywhere, and by address."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._pairs = Window(10, 300, now=now)  # one account from one address
        self._accounts = Window(100, 300, now=now)  # one account from many addresses
        self._addresses = Window(50, 300, now=now)  # many accounts from one address
        self._sign_ins = Window(60, 60, now=now)  # sign-ins begun from one address, good or bad

    def failed(self, address: str, account: str = "") -> None:
        """Somebody at this address could not show that they are this account ("": they named none)."""
        if account:
            self._pairs.add(f"{account}\n{address}")
            self._accounts.add(account)
        self._addresses.add(address)

    def wait_seconds(self, address: str, account: str = "") -> int:
        """How long this address must wait before it may fail again; 0: not at all."""
        waits = [self._addresses.wait_seconds(address)]
        if account:
            waits += [self._pairs.wait_seconds(f"{account}\n{address}"), self._accounts.wait_seconds(account)]
        return max(waits)

    def begun(self, address: str) -> int:
        """A sign-in begins at this address: 0, or how long it must wait, and nothing was counted."""
        wait = self._sign_ins.wait_seconds(address)
        if not wait:
            self._sign_ins.add(address)
        return wait
