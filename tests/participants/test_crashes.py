"""Dying at any line: what the next delivery finds is either nothing, or everything, or a start that it can resolve."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import pytest_asyncio

import orchestrator.participants
from orchestrator.participants.testing import Trial, command_message, incoming, trial
from orchestrator.participants.work import Pool
from tests import forking
from tests.databases import Database, DatabaseServer
from tests.participants.outside import CLEAR, Crash, Pay, World, age, payer
from tests.participants.running import Replies, opened, send
from tests.participants.tills import PutIn, PutMany

# Dying between making a coroutine and awaiting it leaves one that was never awaited; that is what dying is.
pytestmark = [
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

PACKAGE = str(Path(orchestrator.participants.__file__).parent)
ROOT = Path(__file__).parents[2]


class _Tracer:
    """Raises Crash at the n-th line that the library executes."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.lines = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        file = frame.f_code.co_filename
        if not file.startswith(PACKAGE) or file.endswith("testing.py"):
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.at:
                raise Crash
        return self


@contextmanager
def dying_at(line: int) -> Iterator[_Tracer]:
    """Dies at the n-th line inside; goes on outside."""
    tracer, before = _Tracer(line), sys.gettrace()
    sys.settrace(tracer)
    try:
        yield tracer
    except Crash:
        pass
    finally:
        sys.settrace(before)


async def test_a_batch_that_dies_at_any_line_is_done_once(till: Trial) -> None:
    for line in range(1, 10_000):
        saga = f"s-{line}"
        messages = [
            incoming(command_message(command, saga=f"{saga}-{place}"))
            for place, command in enumerate([PutIn(amount=1), PutIn(amount=13), PutMany(amount=2), PutMany(amount=3)])
        ]
        with dying_at(line) as tracer:
            await till.deliver(messages)
        answers = await till.deliver(messages)
        assert [answer.outcome for answer in answers] == ["ok", "refused", "ok", "ok"]
        [done] = await till.rows("SELECT count(*) FROM effects WHERE key LIKE $1", f"{saga}-%")
        assert done["count"] == 3, f"line {line}"
        if tracer.lines < line:
            break
    assert line > 200


@pytest_asyncio.fixture(params=["look up", "repeat", "both"])
async def paying(request: pytest.FixtureRequest, pool: Pool, database: Database) -> AsyncIterator[tuple[Trial, World]]:
    """A payer with each way of finding out."""
    world = World()
    participant = payer(world, lookup=request.param != "repeat", idempotent=request.param != "look up")
    async with trial(participant, pool, database.migrate_url) as tried:
        yield tried, world


@pytest.mark.parametrize("purpose", ["do", "fence"])
async def test_an_outside_effect_that_dies_at_any_line_is_done_once(paying: tuple[Trial, World], purpose: str) -> None:
    """`purpose`: what comes after the crash. A fence may find it done or not, but what it says is true for ever."""
    tried, world = paying
    seen = set()
    for line in range(1, 10_000):
        saga = f"s-{line}"
        with dying_at(line) as tracer:
            await tried.ask(Pay(amount=5), saga=saga)
        answer = await tried.ask(Pay(amount=5), saga=saga, purpose=purpose, attempt=2)
        if answer.outcome in ("error", "in_doubt"):
            await age(tried, CLEAR)
            answer = await tried.ask(Pay(amount=5), saga=saga, purpose=purpose, attempt=3)
        seen.add(answer.outcome)
        done = answer.key in world.done
        assert answer.outcome == ("ok" if done else "not_done"), f"line {line}"
        [row] = await tried.rows("SELECT count(*) FROM effects WHERE key = $1", answer.key)
        assert row["count"] == int(done), f"line {line}: recorded {row['count']} times"
        late = await tried.ask(Pay(amount=5), saga=saga, attempt=4)
        assert late.outcome == ("ok" if done else "refused")
        if tracer.lines < line:
            break
    assert line > 100
    assert seen == ({"ok"} if purpose == "do" else {"ok", "not_done"})


@pytest.mark.slow
async def test_a_process_that_is_killed_again_and_again_does_everything_once(
    till: Trial, database: Database, database_server: DatabaseServer
) -> None:
    """kill -9 of a real process at random moments, while commands keep coming."""
    chance = random.Random(7)
    count = 400
    async with (
        database_server.database() as elsewhere,
        opened(elsewhere.url, till.participant) as broker,
        Replies(broker, till.participant) as replies,
    ):
        sending = asyncio.create_task(_trickle(broker, count))
        kills = 0
        while not sending.done() or kills < 6:
            child = await _child(database.url, elsewhere.url)
            await asyncio.sleep(0.2 + 0.6 * chance.random())
            await _kill(child)
            kills += 1
        child = await _child(database.url, elsewhere.url)
        answered = await replies.answered(count, 60)
        await _kill(child)
    assert all(len(answers) == 1 for answers in answered.values()), "one command, two different answers"
    rows = await till.rows("SELECT key, count(*) FROM effects GROUP BY key")
    assert (len(rows), {row["count"] for row in rows}) == (count, {1})
    assert kills >= 6


async def _child(url: str, log_url: str) -> forking.Program:
    return await forking.started("tests.participants.child", url, log_url)


async def _kill(child: forking.Program) -> None:
    child.send_signal(signal.SIGKILL)
    await child.wait()


async def _trickle(broker: Any, count: int) -> None:
    for number in range(count):
        kind = PutIn if number % 2 else PutMany
        await send(broker, [command_message(kind(amount=1), saga=f"k-{number:04}")])
        await asyncio.sleep(0.015)
