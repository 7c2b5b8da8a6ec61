"""The survey: what only the database knows, asked now and then by the processes that fire timers.

Rules of this file
- Whoever collects never waits for the database: the last answer is given, with its age. One that is too old is not
  given at all: a line that stands still looks like peace.
- Asking costs the database a twentieth of its time at most: where it takes long, it is done less often.
- Two processes that fire timers both ask and say the same; charts and alerts take the largest.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

import structlog

from orchestrator.metrics import names
from orchestrator.metrics.figures import Reading
from orchestrator.runtime.supervisor import Stopping
from orchestrator.store.figures import Follower, ProductFigures

SHARE = 20
STALE_ROUNDS = 4

log = structlog.get_logger("orchestrator.metrics")


class Survey:
    """Asks `ask` every `every_ms`. `reasons`: of dead letters, so that each is there with 0. `sealed`: checkpoints are
    to be signed here, so it matters how old the last one is. `channels`: of notices, each is there with 0."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[ProductFigures]],
        *,
        every_ms: int,
        reasons: Sequence[str] = (),
        sealed: bool = False,
        channels: Sequence[str] = (),
    ) -> None:
        self._ask, self._every_seconds, self._reasons = ask, every_ms / 1000, tuple(reasons)
        self._sealed, self._channels = sealed, tuple(channels)
        self._began = time.monotonic()
        self._found: ProductFigures | None = None
        self._asked_at = 0.0
        self._took = 0.0
        self._level_at: dict[str, float] = {}  # when each follower was last seen to have everything
        self._failing = False

    async def run(self, stopping: Stopping) -> None:
        """Asks until asked to stop. What the database cannot answer now is asked for again."""
        while not stopping:
            try:
                await self.ask()
            except Exception as error:  # figures never end the process that money runs through
                if not self._failing:
                    log.warning("the database does not answer for metrics", error=repr(error)[:300])
                self._failing = True
            else:
                self._failing = False
            await stopping.sleep(max(self._every_seconds, self._took * SHARE) * 1000)

    async def ask(self) -> None:
        """Asks once. Raises StoreError; then what was known stays, and grows old."""
        began = time.monotonic()
        found = await self._ask()
        self._asked_at = time.monotonic()
        self._took = self._asked_at - began
        for one in (*found.read_models, *found.checkpoints):
            if not one.behind:
                self._level_at[one.name] = self._asked_at
        self._found = found

    def readings(self) -> Iterator[Reading]:
        """The last answer, where it is not too old."""
        found, age = self._found, time.monotonic() - self._asked_at
        if found is None:
            return
        yield names.SURVEY_AGE, (), age
        yield names.SURVEY_DURATION, (), self._took
        if age <= max(self._every_seconds, self._took * SHARE) * STALE_ROUNDS:
            yield from self._sagas(found)
            yield from self._flow(found)

    def _sagas(self, found: ProductFigures) -> Iterator[Reading]:
        for name, number in found.in_flight.items():
            yield names.IN_FLIGHT, (name,), number
        for name, number in found.stuck.items():
            yield names.STUCK, (name,), number
        counts: dict[tuple[str, str, str], int] = {}
        for task in found.tasks:
            for state in ("in_time", "overdue"):
                counts.setdefault((task.saga, task.step, state), 0)
            counts[task.saga, task.step, task.state] += task.number
        for values, number in counts.items():
            yield names.TASKS_OPEN, values, number
        yield names.TASKS_OVERDUE, (), max((task.overdue_seconds for task in found.tasks), default=0)

    def _flow(self, found: ProductFigures) -> Iterator[Reading]:
        yield names.OUTBOX_DEPTH, (), found.unsent
        yield names.OUTBOX_AGE, (), found.unsent_seconds
        yield names.INTAKE_LAG, (), found.intake_seconds
        yield names.TIMER_LATENESS, (), found.timer_seconds
        yield names.EARLY_WAITING, (), found.early
        for reason, number in (dict.fromkeys(self._reasons, 0) | found.letters).items():
            yield names.LETTERS_WAITING, (reason,), number
        for channel, number, seconds in [*((channel, 0, 0.0) for channel in self._channels), *found.notices]:
            yield names.NOTICES_WAITING, (channel,), number  # the later one counts
            yield names.NOTICES_AGE, (channel,), seconds
        for model in found.read_models:
            yield names.PROJECTION_STOPPED, (model.name,), int(model.stopped)
            yield names.PROJECTION_BEHIND, (model.name,), model.behind
            yield names.PROJECTION_LAG, (model.name,), self._lag(model)
        for one in found.checkpoints if self._sealed else ():
            yield (
                (names.PUBLISH_LAG, (one.name,), self._lag(one))
                if one.name
                else (
                    names.CHECKPOINT_AGE,
                    (),
                    self._lag(one),
                )
            )

    def _lag(self, one: Follower) -> float:
        """How old what it lacks is, at most: not older than the last moment at which it lacked nothing."""
        if not one.behind:
            return 0.0
        now, level_at = time.monotonic(), self._level_at.get(one.name)
        if level_at is not None:
            return max(0.0, min(one.seconds if one.seconds is not None else now - level_at, now - level_at))
        return max(0.0, one.seconds if one.seconds is not None else now - self._began)
