"""Which loop is green, and when: one that has shown nothing is red, and so is one that turns round without moving."""

from __future__ import annotations

import asyncio
from typing import Any

from orchestrator.broker.contract import Broker, BrokerUnavailableError
from orchestrator.runtime.supervisor import Pulse, Stopping, Supervisor
from tests.runtime.desk import Desk, Eyes
from tests.runtime.test_intake import broker, intake_of, placed, publish, reading, until
from tests.runtime.test_relay import Log, Table, relay_of

__all__ = ["broker"]  # a fixture


async def idle(stopping: Stopping) -> None:
    await stopping.wait()


def is_ready(supervisor: Supervisor) -> bool:
    return supervisor.ready


async def test_a_loop_that_has_not_come_round_once_is_not_ready() -> None:
    """However short it has been running: a process that has just started has shown nothing."""
    pulse = Pulse("intake", 60_000)
    supervisor = Supervisor(stop_ms_max=1_000)
    supervisor.add("intake", idle, pulse)
    assert not is_ready(supervisor)
    running = asyncio.create_task(supervisor.run())
    await asyncio.sleep(0.01)
    (health,) = supervisor.health()
    assert (health.ready, health.detail) == (False, "has not come round yet")
    pulse.trouble("no database")
    assert not is_ready(supervisor), "a loop that speaks has not got on yet"
    pulse.beat()
    assert is_ready(supervisor)
    supervisor.stop()
    await running


async def test_an_intake_that_moves_nothing_while_messages_wait_is_not_ready(
    desk: Desk, broker: Broker, eyes: Eyes
) -> None:
    """Its loops come round, its broker answers, and yet nothing is done: that is what readiness is about."""
    gate = asyncio.Event()
    process = desk.coordinator.process

    async def blocked(items: Any, positions: Any = None) -> Any:
        if items:
            await gate.wait()
        return await process(items, positions or {})

    desk.coordinator.process = blocked  # type: ignore[method-assign]
    intake = intake_of(desk, broker)
    async with reading(intake) as pulses:
        heartbeat = pulses["heartbeat"]
        await until(_is(lambda: heartbeat.ready), "green while there is nothing to read")
        await publish(broker, placed(10))
        await until(_is(lambda: not heartbeat.ready), "red while ten messages wait")
        assert "hold messages, and none was processed" in heartbeat.detail
        assert pulses["intake"].ready, "which looks well all the time"
        gate.set()
        await until(_is(lambda: heartbeat.ready), "green again")
    assert await eyes.count("saga_heads") == 10


async def test_an_intake_without_its_partitions_is_not_ready(desk: Desk, broker: Broker) -> None:
    """Fetching nothing is no news, where nothing can be fetched."""
    intake = intake_of(desk, broker)
    settled = False
    intake._consumer.settled = lambda: settled  # type: ignore[method-assign]
    async with reading(intake) as pulses:
        await until(_is(lambda: pulses["lane0"].ready and pulses["lane1"].ready), "lanes have nothing to wait for")
        assert not pulses["intake"].ready
        assert not pulses["heartbeat"].ready
        assert "has not given this process its partitions" in pulses["intake"].detail
        settled = True
        await until(_is(lambda: all(pulse.ready for pulse in pulses.values())), "green with them")


async def test_a_relay_that_cannot_reach_its_broker_is_not_ready_even_with_nothing_to_send() -> None:
    """The first message would find it out, and that is too late."""
    log, away = Log(), True

    async def start() -> None:
        if away:
            raise BrokerUnavailableError("nobody answers")

    log.start = start  # type: ignore[method-assign]
    relay, stopping, pulse = relay_of(Table(), log), Stopping(), Pulse("relay", 60_000)
    running = asyncio.create_task(relay.run(stopping, pulse))
    await until(_is(lambda: "nobody answers" in pulse.detail), "it says why")
    assert not pulse.ready
    away = False
    await until(_is(lambda: pulse.ready), "green when the broker is there")
    stopping.ask()
    await running


def _is(check: Any) -> Any:
    async def answer() -> bool:
        return bool(check())

    return answer
