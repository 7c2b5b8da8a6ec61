"""One coordinator process: the production loops, wired as the product wires them, over simulated ports.

Rules of this file
- A life begins with nothing in memory and ends by being killed at any port call, or by being asked to stop. Store and
  broker are kept.
- A loop that ends by itself is a broken promise of the product, unless its process was killed.
"""

from __future__ import annotations

import asyncio
import contextvars
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from orchestrator.broker.contract import BrokerError, OutgoingMessage, SendError
from orchestrator.config import Settings
from orchestrator.runtime import parts
from orchestrator.runtime.hints import Hints
from orchestrator.runtime.reconciler import Reconciler
from orchestrator.runtime.submit import BusyError, Submitter
from orchestrator.runtime.supervisor import LoopDiedError, Pulse, Supervisor
from orchestrator.runtime.work import Item, Outcome
from orchestrator.store.contract import StoreError
from tests.simulation.fake_broker import FakeBroker
from tests.simulation.fake_store import FakeStore
from tests.simulation.faults import HostilePort, Weather
from tests.simulation.virtual import OWNER
from tests.simulation.world import World

STALL_MS = 600_000


class Process:
    """A process that can be started, killed and started again."""

    def __init__(self, world: World, name: str, settings: Settings, weather: Weather, turn_records: int) -> None:
        self.world, self.name, self.settings, self.weather = world, name, settings, weather
        self.turn_records = turn_records
        self.lives = 0
        self.up = False
        self._tasks: list[asyncio.Task[Any]] = []
        self._gone: asyncio.Future[None] | None = None
        self.port: HostilePort | None = None
        self.broker: FakeBroker | None = None
        self.submitter: Submitter | None = None
        self.supervisor: Supervisor | None = None
        self.coordinator: Any = None
        self.router: Any = None

    def start(self) -> None:
        """A new life."""
        if self.up:
            return
        self.lives += 1
        self.up = True
        self._tasks = []
        self.world.log(f"{self.name} starts its life {self.lives}")
        context = contextvars.copy_context()
        context.run(OWNER.set, self._tasks)
        life = f"{self.name}.{self.lives}"
        port = HostilePort(self.world.random, self.weather, self, lambda text: self.world.log(f"{life} {text}"))
        self.port = port
        self._gone = self.world.loop.create_future()
        self._tasks.append(self.world.loop.create_task(self._run(port), context=context))

    def crash(self, where: str = "") -> None:
        """It is gone, now, whatever it was doing."""
        if not self.up or self.port is None:
            return
        self.world.log(f"{self.name} dies at {where}")
        self._end(self.port)
        tasks = self._tasks

        def cancel() -> None:
            for task in tasks:
                task.cancel()

        self.world.loop.call_soon(cancel)
        member = [m for m in (self._member(),) if m is not None]
        for found in member:  # the group notices when the session runs out
            self.world.loop.call_later(self.world.random.choice([0.0, 1.0, 9.0]), self._leave, found)

    def freeze(self) -> None:
        """The group takes it for dead, although it lives (a zombie)."""
        member = self._member()
        if member is not None and self.up:
            self.world.log(f"{self.name} is taken for dead")
            self._leave(member)

    def stop(self) -> None:
        """Asks it to end in order."""
        if self.supervisor is not None:
            self.world.log(f"{self.name} is asked to stop")
            self.supervisor.stop()

    async def submit(self, item: Item) -> Outcome | None:
        """An act of a person; None where nobody answers."""
        if not self.up or self.submitter is None or self._gone is None:
            return None
        asked = asyncio.ensure_future(self.submitter.submit(item))
        both: set[asyncio.Future[Any]] = {asked, self._gone}
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not asked.done():
            asked.cancel()
            return None
        if asked.cancelled() or isinstance(asked.exception(), BusyError | StoreError):
            return None
        return asked.result()

    def _member(self) -> Any:
        made = [m for m in (self.broker._made if self.broker is not None else ()) if hasattr(m, "member")]
        return made[-1].member if made else None

    def _leave(self, member: Any) -> None:
        if self.world.group in self.world.messages.groups:
            self.world.messages.leave(self.world.group, member)

    async def _run(self, port: HostilePort) -> None:
        try:
            try:
                await self._live(port)
            finally:
                if port.alive and self.broker is not None:
                    await self.broker.close()
        except (BrokerError, StoreError) as error:
            self._ended(port, f"could not start: {error}")
        except LoopDiedError as error:
            if port.alive:
                with self.world.judging():
                    raise AssertionError(f"{self.name}: {error}") from error
            self._ended(port, str(error))
        else:
            self._ended(port, "stopped")

    def _ended(self, port: HostilePort, why: str) -> None:
        if port.alive:
            self.world.log(f"{self.name} ended: {why}")
            self._end(port)

    def _end(self, port: HostilePort) -> None:
        port.alive = self.up = False
        self.submitter = self.supervisor = None
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)

    async def _live(self, port: HostilePort) -> None:
        world, settings = self.world, self.settings
        store = FakeStore(world.tables, port)
        self.broker = broker = FakeBroker(world.messages, settings.broker_settings(), port, self._refuses)
        await broker.ensure_topics(parts.topics(settings, world.catalog))
        await world.catalog.register(store)
        hints = Hints()
        coordinator = parts.coordinator(settings, world.catalog, store, hints)
        # Smaller than a setting may be: a turn that is cut short is where resumes come from.
        two = world.limits.two_people
        limits = replace(coordinator._fixed.limits, turn_records_max=self.turn_records, two_people=two)
        coordinator._fixed = replace(coordinator._fixed, limits=limits)
        router = parts.router(settings, world.catalog)
        submitter = Submitter(coordinator.process, wait_ms=1, acts_max=20, waiting_max=100)
        relay = parts.relay(settings, store, broker, coordinator, owner=False)
        coordinator.outlet = relay
        intake = parts.intake(settings, store, broker, coordinator, router, hints, relay)
        queries = SimpleNamespace(positions=partial(self._positions, store))
        timers = parts.timers(settings, store, coordinator, hints, router.topics, cast("Any", queries))
        reconciler = Reconciler(
            store, coordinator, hints, tenant=settings.tenant, poll_ms=settings.reconcile_poll_ms,
            batch_rows=settings.reconcile_batch_rows, report_ms=settings.reconcile_report_ms,
        )  # fmt: skip
        supervisor = Supervisor(stop_ms_max=settings.stop_ms_max)
        supervisor.add("submit", submitter.run)
        loops: list[tuple[str, Any]] = [
            (f"lane-{n}", partial(intake.lane, lane)) for n, lane in enumerate(intake.lanes)
        ]
        loops += [
            ("heartbeat", intake.heartbeat), ("intake", intake.run), ("resumes", reconciler.resumes),
            ("checks", reconciler.checks), ("timers", timers.run), ("relay", relay.run), ("sweep", relay.sweep),
            ("mark", relay.mark),
        ]  # fmt: skip
        for name, run in loops:
            supervisor.add(name, partial(run, pulse=Pulse(name, STALL_MS)))
        self.submitter, self.supervisor, self.coordinator, self.router = submitter, supervisor, coordinator, router
        await supervisor.run()

    async def _positions(self, store: FakeStore) -> list[Any]:
        rows = sorted(store.tables.positions.items())
        return [SimpleNamespace(group=place[0], topic=place[1], read_until=row[1]) for place, row in rows]

    def _refuses(self, message: OutgoingMessage) -> SendError | None:
        """What the broker will never take, decided by the message alone: asked twice, it says the same."""
        if self.world.never_takes(message, dict(message.headers)["ce_id"].decode()):
            return SendError("refused", "simulated: this broker never takes it", retriable=False)
        return None
