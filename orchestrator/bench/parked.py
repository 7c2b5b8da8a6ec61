"""`orchestrator bench parked`: many sagas that wait for a person, and what one approval costs among them.

Rules of this file
- A saga counts as parked when its task is in the database, open: what an approver would see.
- A wake is measured as its user has it: from the POST of the decision until the next step's participant has answered.
  It is measured twice, in an empty system and among all the parked ones.
- Memory is the coordinator's resident set, read from the system while sagas park.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from orchestrator.bench.approvals.definition import APPROVER_ROLE
from orchestrator.bench.flow import QUIET_SECONDS_MAX, SEND_BATCH_MESSAGES, machine, percentiles
from orchestrator.bench.place import BrokerKind, Place, Process, place
from orchestrator.bench.upstream import Upstream, event
from orchestrator.broker.contract import OutgoingMessage
from orchestrator.cli.output import CliError, ExitCode, Output

SAGAS = "orchestrator.bench.approvals.definition"
STARTS, ANSWERS = "bench.events", "bench.replies"
WAKES_WARM = 20
POLL_SECONDS = 0.25
ACTOR = {"X-Actor": "bench", "X-Actor-Roles": APPROVER_ROLE}


@dataclass(frozen=True)
class ParkedOptions:
    """How many sagas park, on which broker, and how many are woken to measure (each time)."""

    sagas: int
    broker: BrokerKind
    wakes: int


async def bench_parked(options: ParkedOptions, out: Output) -> bool:
    """Runs the bench and prints its result; True where all parked, and all that were woken went on."""
    out.say(f"starting PostgreSQL and {options.broker} broker")
    async with place(options.broker, SAGAS) as here:
        coordinator = await here.start("coordinator", "coordinator,relay,timers,projections,api", api=True)
        await here.start("participants", "participants")
        async with gathered(here) as crowd:
            out.say("waking in an empty system")
            await crowd.park(WAKES_WARM + options.wakes)
            await crowd.wake(WAKES_WARM)
            empty = percentiles(await crowd.wake(options.wakes))
            out.say(f"{options.sagas} sagas park")
            seconds, memory = await crowd.park(options.sagas, coordinator, out)
            out.say("waking among them")
            full = percentiles(await crowd.wake(options.wakes))
        result = {
            "ok": True,
            "bench": "parked",
            "sagas": options.sagas,
            "seconds": round(seconds, 3),
            "parked_per_second": round(options.sagas / seconds, 1),
            "memory_mb": memory,
            "wake_ms_empty": empty,
            "wake_ms_parked": full,
            "wake_ratio": round(full["p50"] / empty["p50"], 2),
            "settings": {**await machine(here), "broker": options.broker, "wakes": options.wakes},
        }
    out.object(result)
    for name in ("parked_per_second", "memory_mb", "wake_ms_empty", "wake_ms_parked", "wake_ratio"):
        out.line(f"{name:<20} {result[name]}")
    return True


@asynccontextmanager
async def gathered(here: Place) -> AsyncIterator[Crowd]:
    """Connects to broker and API of a product that runs."""
    async with (
        httpx2.AsyncClient(base_url=here.api_url, trust_env=False, timeout=30, headers=ACTOR) as client,
        Upstream(here.broker, ANSWERS) as upstream,
    ):
        yield Crowd(here, client, upstream)


class Crowd:
    """Sagas that wait for approval, and somebody who approves."""

    def __init__(self, here: Place, client: httpx2.AsyncClient, upstream: Upstream) -> None:
        self._here, self._client, self._upstream = here, client, upstream
        self._contract = here.catalog.registry.get("bench.Wanted")
        self._parked = 0

    async def park(
        self, sagas: int, coordinator: Process | None = None, out: Output | None = None
    ) -> tuple[float, dict[str, float]]:
        """Starts sagas and waits until all of them wait for approval. Seconds, and megabytes at some moments."""
        wanted = self._parked + sagas
        memory: dict[str, float] = {}
        began = time.perf_counter()
        sending = asyncio.create_task(self._send(sagas))
        moved_at, last = began, self._parked
        while last < wanted:
            await asyncio.sleep(POLL_SECONDS)
            now = (await self._here.fetch("open_tasks"))[0]["tasks"]
            for process in self._here.processes:
                process.check()
            if now > last:
                moved_at = time.perf_counter()
            elif time.perf_counter() - moved_at > QUIET_SECONDS_MAX:
                raise CliError(ExitCode.TIME_OUT, f"{wanted - now} sagas do not park, and nothing moves any more")
            done = 1 - (wanted - now) / sagas
            for part, name in ((0.5, "half"), (0.75, "three_quarters"), (1.0, "all")):
                if coordinator is not None and done >= part and name not in memory:
                    memory[name] = resident_mb(coordinator.popen.pid)
                    if out is not None:
                        out.say(f"{now} parked, {(now - self._parked) / (time.perf_counter() - began):.0f}/s")
            last = now
        await sending
        self._parked = wanted
        return time.perf_counter() - began, memory

    async def wake(self, wakes: int) -> list[float]:
        """Approves, one after the other; milliseconds from each POST until the next step has answered."""
        tasks = await self._tasks(wakes)
        return [await self._wake(task) for task in tasks]

    async def _wake(self, task: Mapping[str, Any]) -> float:
        body = {"outcome": "approve", "subjectHash": task["subjectHash"]}
        began = time.perf_counter()
        answer = await self._client.post(f"/v1/tasks/{task['id']}/decide", json=body)
        if not answer.is_success:
            raise CliError(ExitCode.FAILED, f"the approval was answered {answer.status_code}: {answer.text[:300]}")
        saga = task["sagaId"].encode()
        while time.perf_counter() - began < QUIET_SECONDS_MAX:
            for message in await self._upstream.hear(100):
                if message.key == saga:
                    self._parked -= 1
                    return (time.perf_counter() - began) * 1000
        raise CliError(ExitCode.TIME_OUT, f"saga {task['sagaId']} was approved and did not go on")

    async def _tasks(self, wanted: int) -> list[dict[str, Any]]:
        """Open tasks with what an approval needs to name: the hash of what was shown."""
        answer = await self._client.get("/v1/tasks", params={"limit": wanted})
        listed = answer.raise_for_status().json()["items"]
        shown = []
        for item in listed:
            found = await self._client.get(f"/v1/tasks/{item['id']}")
            shown.append(found.raise_for_status().json())
        return shown

    async def _send(self, sagas: int) -> None:
        prefix = uuid.uuid4().hex[:8]
        for start in range(0, sagas, SEND_BATCH_MESSAGES):
            numbers = range(start, min(start + SEND_BATCH_MESSAGES, sagas))
            await self._upstream.send([self._start(f"{prefix}-{number}") for number in numbers])

    def _start(self, wanted_id: str) -> OutgoingMessage:
        return event(self._contract, STARTS, wanted_id, {"wanted_id": wanted_id, "amount": "6000"})


def resident_mb(pid: int) -> float:
    """Memory of a process that lies in RAM, megabytes; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    found = next((line for line in lines if line.startswith("VmRSS:")), "VmRSS: 0 kB")
    return round(int(found.split()[1]) / 1024, 1)
