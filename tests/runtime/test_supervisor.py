"""The supervisor: nothing runs on half dead, red means stalled, and stopping has an order."""

from __future__ import annotations

import asyncio
import time

import pytest

from orchestrator.runtime.supervisor import LoopDiedError, Pulse, Stopping, Supervisor


async def idle(stopping: Stopping) -> None:
    await stopping.wait()


def is_ready(supervisor: Supervisor) -> bool:
    """Asked anew each time: a checker would take a property to stay as it was."""
    return supervisor.ready


async def test_a_loop_that_raises_ends_the_process_with_its_reason() -> None:
    async def dies(stopping: Stopping) -> None:
        await asyncio.sleep(0.01)
        raise ZeroDivisionError("a bug")

    supervisor = Supervisor(stop_ms_max=1_000)
    supervisor.add("idle", idle)
    supervisor.add("bad", dies)
    with pytest.raises(LoopDiedError, match="loop bad ended: ZeroDivisionError: a bug"):
        await supervisor.run()


async def test_a_loop_that_returns_unasked_ends_the_process_too() -> None:
    async def returns(stopping: Stopping) -> None:
        await asyncio.sleep(0.01)

    supervisor = Supervisor(stop_ms_max=1_000)
    supervisor.add("idle", idle)
    supervisor.add("gone", returns)
    with pytest.raises(LoopDiedError, match="loop gone ended: it returned"):
        await supervisor.run()


async def test_loops_stop_one_after_the_other_in_their_order() -> None:
    ended: list[str] = []

    def loop(name: str, seconds: float):  # type: ignore[no-untyped-def]
        async def run(stopping: Stopping) -> None:
            await stopping.wait()
            await asyncio.sleep(seconds)
            ended.append(name)

        return run

    supervisor = Supervisor(stop_ms_max=2_000)
    supervisor.add("intake", loop("intake", 0.05))
    supervisor.add("relay", loop("relay", 0.0))
    supervisor.add("api", loop("api", 0.02), first=True)
    asyncio.get_running_loop().call_later(0.02, supervisor.stop)
    await supervisor.run()
    assert ended == ["api", "intake", "relay"]


async def test_a_loop_that_does_not_stop_in_time_is_cut() -> None:
    async def stubborn(stopping: Stopping) -> None:
        await asyncio.sleep(60)

    supervisor = Supervisor(stop_ms_max=100)
    supervisor.add("stubborn", stubborn)
    supervisor.add("idle", idle)
    asyncio.get_running_loop().call_later(0.02, supervisor.stop)
    began = time.monotonic()
    await supervisor.run()
    assert time.monotonic() - began < 30


async def test_a_loop_without_progress_is_not_ready_and_is_again_with_its_next_beat() -> None:
    pulse = Pulse("timers", 50)

    async def stalls(stopping: Stopping) -> None:
        pulse.beat()
        await stopping.wait()

    supervisor = Supervisor(stop_ms_max=1_000)
    supervisor.add("timers", stalls, pulse)
    running = asyncio.create_task(supervisor.run())
    await asyncio.sleep(0.01)
    assert is_ready(supervisor)
    await asyncio.sleep(0.1)
    assert not is_ready(supervisor)
    pulse.trouble("database away")
    (health,) = supervisor.health()
    assert (health.name, health.ready, health.detail) == ("timers", False, "database away")
    assert health.age_ms >= 50
    pulse.beat()
    assert is_ready(supervisor)
    supervisor.stop()
    assert not is_ready(supervisor), "who stops takes no more work"
    await running


async def test_a_stall_that_lasts_ends_the_process() -> None:
    supervisor = Supervisor(stop_ms_max=1_000, stall_exit_ms=100)
    supervisor.add("stuck", idle, Pulse("stuck", 50))
    with pytest.raises(LoopDiedError, match="loop stuck ended: nothing heard of it for"):
        await supervisor.run()


async def test_a_loop_that_knows_its_trouble_is_not_ready_but_is_not_killed_for_it() -> None:
    """The broker is away for an hour: restarting does not bring it back, and people may still decide."""
    pulse = Pulse("relay", 50)

    async def troubled(stopping: Stopping) -> None:
        while not stopping:
            pulse.trouble("broker away")
            await stopping.sleep(20)

    supervisor = Supervisor(stop_ms_max=1_000, stall_exit_ms=200)
    supervisor.add("relay", troubled, pulse)
    running = asyncio.create_task(supervisor.run())
    await asyncio.sleep(1.2)
    assert not is_ready(supervisor)
    assert not running.done()
    supervisor.stop()
    await running


async def test_an_event_loop_that_is_blocked_shows_as_lag() -> None:
    async def blocks(stopping: Stopping) -> None:
        await asyncio.sleep(0.3)
        time.sleep(0.4)  # noqa: ASYNC251 - the point of the test
        await stopping.wait()

    supervisor = Supervisor(stop_ms_max=1_000)
    supervisor.add("blocks", blocks)
    running = asyncio.create_task(supervisor.run())
    await asyncio.sleep(1.2)
    supervisor.stop()
    await running
    assert supervisor.lag_ms_max >= 150
