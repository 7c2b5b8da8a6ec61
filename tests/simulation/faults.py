"""What goes wrong between a process and its store and broker.

Rules of this file
- Every call may be late, fail before it is carried out, fail after, hang until it is given up, or be the last thing
  that the process does. A COMMIT may be answered by silence: carried out, not carried out, or carried out later.
- Each seed draws its own rates, zero included (swarm). All draws come from the world's one source of chance.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, TypeVar

from orchestrator.broker.contract import BrokerUnavailableError, OutgoingMessage
from orchestrator.store.contract import CommitUnknownError, StoreError, StoreUnavailableError
from tests.simulation.ports import Port

Given = TypeVar("Given")
OF_BROKER = frozenset({"connect", "join", "fetch", "send", "end offsets", "tell positions"})
PATIENCE_S = 5.0  # a statement's time limit


@dataclass(slots=True)
class Weather:
    """How often a call goes wrong, as shares of 1. `slow`: the longest way there and back, seconds."""

    before: float = 0.0
    after: float = 0.0
    hang: float = 0.0
    unknown: float = 0.0
    crash: float = 0.0
    lost_send: float = 0.0
    slow: float = 0.003

    @classmethod
    def swarm(cls, random: Random) -> Weather:
        """The weather of one seed."""
        most = {"before": 0.12, "after": 0.12, "hang": 0.02, "unknown": 0.2, "crash": 0.01, "lost_send": 0.25}
        drawn = {name: random.random() * rate if random.random() < 0.45 else 0.0 for name, rate in most.items()}
        return cls(slow=random.choice([0.0, 0.003, 0.003, 0.03, 0.2]), **drawn)


class Killable(Protocol):
    """The process behind a port."""

    def crash(self, where: str) -> None:
        """Takes it away."""


class HostilePort(Port):
    """The port of one life of one process."""

    def __init__(self, random: Random, weather: Weather, process: Killable, log: Callable[[str], None]) -> None:
        self._random, self.weather, self._process, self._log = random, weather, process, log
        self.aimed_at = ""  # the process dies at its next call of this name
        self.aimed = 0  # the process dies at this many calls from now; 0: it does not

    async def call(self, name: str, work: Callable[[], Awaitable[Given]]) -> Given:
        """One call, with whatever happens to it."""
        await self._way()
        fault = self._draw(name)
        if fault == "die before":
            await self._die(name)
        if fault == "before":
            raise self._unavailable(name, "cannot be reached")
        result = await work()
        if fault == "die after":
            await self._die(name)
        if fault == "hang":
            await asyncio.sleep(self._random.random() * 2 * PATIENCE_S)
        if self._random.random() < 0.3:
            await self._way()
            if name == "end offsets" and self.weather.slow:  # an answer that is old when it comes
                await asyncio.sleep(self._random.random() * self.weather.slow * 6)
        if not self.alive:
            raise asyncio.CancelledError
        if fault in ("after", "hang"):
            raise self._unavailable(name, "did not answer")
        return result

    async def commit(self, apply: Callable[[], None], undo: Callable[[], None]) -> None:
        """COMMIT: the answer may be lost, whatever happened."""
        try:
            await self._way()
        except BaseException:
            self.roll_back(undo)
            raise
        fault = self._draw("commit", self.weather.unknown)
        if fault in ("before", "after", "hang", "die before", "die after"):
            self._log(f"commit {fault}")
            end = apply if self._random.random() < 0.6 else undo
            asyncio.get_running_loop().call_later(self._random.choice([0, 0, 0.2, 2.0]), end)
            if fault.startswith("die"):
                await self._die("commit")
            await self._way()
            raise CommitUnknownError("simulated: the connection died in COMMIT")
        apply()
        await self._way()

    async def carry_out(
        self, work: Callable[[], Awaitable[None]], apply: Callable[[], None], undo: Callable[[], None]
    ) -> None:
        """The call may get lost, before it arrives or after; or it arrives when nobody waits for it any more."""
        await self._way()
        fault = self._draw("carry out", self.weather.unknown)
        if fault == "before" and self._random.random() < 0.3:
            raise self._unavailable("carry out", "cannot be reached")
        if fault:
            self._log(f"carry out: {fault}")
            if self._random.random() < 0.7:
                delay = self._random.choice([0.0, 0.0, 0.3, 0.9, 1.5])
                asyncio.get_running_loop().call_later(delay, _alone, super().carry_out(work, apply, undo))
            if fault.startswith("die"):
                await self._die("carry out")
            await self._way()
            raise CommitUnknownError("simulated: the connection died")
        await super().carry_out(work, apply, undo)
        await self._way()

    def roll_back(self, undo: Callable[[], None]) -> None:
        """A server notices late that its client is gone."""
        if self.alive:
            undo()
        else:
            asyncio.get_running_loop().call_later(self._random.choice([0.0, 0.5, 3.0]), undo)

    def fate(self, message: OutgoingMessage) -> str:
        """What becomes of one message that is sent: "", not taken ("unavailable"), or taken in silence ("timeout")."""
        if self._happens(self.weather.lost_send):
            return self._random.choice(["unavailable", "timeout"])
        return ""

    async def _way(self) -> None:
        """The time that a request or an answer takes. A process that was killed does not come back from it."""
        if not self.alive:
            raise asyncio.CancelledError
        slow = self.weather.slow
        if slow:
            await asyncio.sleep(self._random.random() * slow)
        if not self.alive:
            raise asyncio.CancelledError

    def _draw(self, name: str, more: float = 0.0) -> str:
        weather = self.weather
        if self.aimed_at == name:
            self.aimed_at = ""
            return "die before"
        if self.aimed:
            self.aimed -= 1
            if not self.aimed:
                return self._random.choice(["die before", "die after"])
        drawn = self._random.random() if weather != _CALM else 1.0
        for fault, rate in (
            ("before", weather.before + more), ("after", weather.after), ("hang", weather.hang),
            ("die before", weather.crash), ("die after", weather.crash),
        ):  # fmt: skip
            if drawn < rate:
                self._log(f"{name}: {fault}")
                return fault
            drawn -= rate
        return ""

    async def _die(self, name: str) -> None:
        self._process.crash(name)
        raise asyncio.CancelledError

    def _happens(self, rate: float) -> bool:
        return rate > 0 and self._random.random() < rate

    @staticmethod
    def _unavailable(name: str, text: str) -> Exception:
        kind = BrokerUnavailableError if name in OF_BROKER else StoreUnavailableError
        return kind(f"simulated: {name} {text}")


_CALM = Weather()
_UNDER_WAY: set[asyncio.Task[None]] = set()


def _alone(work: Coroutine[Any, Any, None]) -> None:
    """Something that the server does for a client that is gone: nobody hears how it ends."""

    async def run() -> None:
        with contextlib.suppress(StoreError):
            await work

    task = asyncio.get_running_loop().create_task(run())
    _UNDER_WAY.add(task)
    task.add_done_callback(_UNDER_WAY.discard)
