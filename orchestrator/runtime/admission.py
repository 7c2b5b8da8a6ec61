"""The door for starts: whether a new saga may begin over HTTP now, or had better be asked for again in a moment.

Rules of this file
- Only starts are refused here, and before anything is done for them. What belongs to sagas that run (votes, operators'
  acts, cancellations, events that somebody waits for) never comes to this door: it makes the load less.
- Deciding asks nobody: it compares numbers in memory. The numbers that other processes share come from the database in
  one statement every `sample_ms`; what was let in since is added to them, so a burst between two looks is counted too.
- A limit of 0 is no limit. Looking costs the database a twentieth of the time at most: where it takes long, it is done
  less often.
- While the database does not answer, the last numbers count on and grow with every start that is let in.
See docs/adr/0020-starts-are-refused-early.md.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.store.contract import StoreError
from orchestrator.store.load import Load

SAMPLE_SHARE = 20
RETRY_SECONDS_MAX = 30
RETRY_SECONDS_SPREAD = 3  # so that those who were refused together do not come back together


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """From where on starts are refused; 0: never. See the settings `admit_...` for each."""

    requests: int
    acts: int
    unsent_rows: int
    open_commands: int
    live_sagas: int
    intake_behind_ms: int


SIGNALS = tuple(field.name for field in fields(AdmissionLimits))


class TooMuchError(Exception):
    """A start is refused for now. `signal`: what is full; `level` of `limit`; come again after `retry_seconds`."""

    retriable = True

    def __init__(self, signal: str, level: int, limit: int, retry_seconds: int) -> None:
        super().__init__(f"{signal} is at {level}, and new sagas are begun below {limit} only")
        self.signal, self.level, self.limit, self.retry_seconds = signal, level, limit, retry_seconds


class Admission:
    """One per process. `acts_waiting` and `rows_waiting` say what waits in this process right now."""

    def __init__(
        self,
        limits: AdmissionLimits,
        look: Callable[[], Awaitable[Load]],
        *,
        acts_waiting: Callable[[], int],
        rows_waiting: Callable[[], int],
        sample_ms: int,
    ) -> None:
        self._limits = limits
        self._look = look
        self._acts_waiting, self._rows_waiting = acts_waiting, rows_waiting
        self._sample_ms = sample_ms
        self._load = Load()
        self._since = 0  # starts let in since the last look began
        self.under_way = 0
        self.let_in = 0
        self.refused: Counter[str] = Counter()

    @contextmanager
    def start(self) -> Iterator[None]:
        """While inside, one start is under way. Raises TooMuchError where it must wait."""
        full = self._full()
        if full is not None:
            self.refused[full.signal] += 1
            raise full
        self._since += 1
        self.let_in += 1
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1

    def facts(self) -> dict[str, int]:
        """Sizes and counts by name."""
        found = {"starts_let_in": self.let_in, "starts_under_way": self.under_way}
        return found | {f"starts_refused_{signal}": self.refused[signal] for signal in SIGNALS}

    def _full(self) -> TooMuchError | None:
        limits, load, since = self._limits, self._load, self._since
        levels = (
            ("requests", self.under_way, limits.requests),
            ("acts", self._acts_waiting(), limits.acts),
            ("unsent_rows", max(load.unsent_rows + since, self._rows_waiting()), limits.unsent_rows),
            ("open_commands", load.open_commands + since, limits.open_commands),
            ("live_sagas", load.live_sagas + since, limits.live_sagas),
            ("intake_behind_ms", load.intake_behind_ms, limits.intake_behind_ms),
        )
        for signal, level, limit in levels:
            if limit and level >= limit:
                return TooMuchError(signal, level, limit, _retry_seconds(level / limit))
        return None

    async def run(self, stopping: Stopping, pulse: Pulse) -> None:
        """Looks now and then until asked to stop."""
        while not stopping:
            before = self._since
            try:
                self._load = await self._look()
            except StoreError as error:
                if not error.retriable:
                    raise
                pulse.trouble(f"store: {error}")
                await stopping.sleep(self._sample_ms)
                continue
            # What was let in while we looked may or may not be in the numbers: it counts as not.
            self._since -= before
            pulse.beat()
            await stopping.sleep(max(self._sample_ms, self._load.counting_ms * SAMPLE_SHARE))


def _retry_seconds(fullness: float) -> int:
    """The fuller, the later; never the same for all."""
    return min(RETRY_SECONDS_MAX, int(fullness) + random.randrange(RETRY_SECONDS_SPREAD))  # noqa: S311 spread, not secrecy
