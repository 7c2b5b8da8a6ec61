"""How many sagas of one flow a second, from the event on the broker to the event that says its end.

Rules of this file
- The driver is an upstream service: it publishes what starts a saga and waits for what says its end. Coordinator and
  participants are processes of the shipped product, and no flow has a path that others have not.
- One saga in ten is refused on its way, and what was done is undone.
- The result counts only if it is right: every start ended as it must, ledgers balance, nothing is left over.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
import uuid
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.bench.bare import bare_loop, weight_of
from orchestrator.bench.place import BrokerKind, Place, Process, place
from orchestrator.bench.upstream import Upstream, event
from orchestrator.broker.contract import OutgoingMessage
from orchestrator.cli.output import CliError, ExitCode, Output

COORDINATOR = "coordinator"
WARM_UP_SAGAS_MIN, WARM_UP_SAGAS_MAX = 50, 2_000  # a tenth of the run: the JVM of a new Kafka compiles for a while
BARE_SAGAS_MAX = 10_000
SHOWN = ("sagas", "sagas_per_second", "ratio_to_limit", "records_per_second", "bytes_per_saga", "latency_ms",
         "cpu_ms_per_saga")  # fmt: skip
COMPENSATING_EVERY = 10
SEND_BATCH_MESSAGES = 500
FETCH_MESSAGES = 1_000
QUIET_SECONDS_MAX = 60.0  # without a single end, something is wrong


@dataclass(frozen=True)
class Flow:
    """What is measured.

    name: of the bench. noun: what its sagas are about. modules: where they are. topic: of starts and ends, whose types
    are `starts_on` and `ends`. start: the starting event's data, by business key, number, and whether this one is to be
    compensated. unbalanced: what the ledgers of the keys with a prefix contradict, in words.
    """

    name: str
    noun: str
    modules: str
    topic: str
    starts_on: str
    ends: frozenset[bytes]
    start: Callable[[str, int, bool], Mapping[str, Any]]
    unbalanced: Callable[[Place, str], Awaitable[list[str]]]


@dataclass(frozen=True)
class FlowOptions:
    """What to run. concurrency: how many sagas are under way at once, or "open" for all of them. coordinators: how
    many processes of them share the work."""

    sagas: int
    broker: BrokerKind
    concurrency: str
    coordinators: int = 1

    @property
    def at_once(self) -> int:
        """The concurrency as a number. Raises CliError."""
        if self.concurrency == "open":
            return self.sagas
        if not self.concurrency.isdecimal() or int(self.concurrency) < 1:
            raise CliError(ExitCode.USAGE, f"--concurrency {self.concurrency!r}", "a number from 1, or open")
        return int(self.concurrency)


async def bench_flow(flow: Flow, options: FlowOptions, out: Output) -> bool:
    """Runs the bench and prints its result; True where everything that was started ended as it must."""
    at_once = options.at_once
    out.say(f"starting PostgreSQL and {options.broker} broker")
    async with place(options.broker, flow.modules) as here:
        found, prefix = await measured(here, flow, options.sagas, at_once, out, options.coordinators)
        here.stop()
        out.say("the bare loop: the same bytes and rows, nothing decided")
        weight = weight_of((await here.fetch("per_saga", prefix))[0])
        bare = min(options.sagas, BARE_SAGAS_MAX)
        limit = bare / await bare_loop(here, weight, bare)
        result = {
            "ok": not found["wrong"],
            "bench": flow.name,
            **found,
            "limit_sagas_per_second": round(limit, 1),
            "ratio_to_limit": round(found["sagas_per_second"] / limit, 3),
            "settings": {
                **await machine(here),
                "broker": options.broker,
                "concurrency": options.concurrency,
                "coordinators": options.coordinators,
            },
        }
    out.object(result)
    for name in SHOWN:
        out.line(f"{name:<20} {result[name]}")
    for wrong in found["wrong"]:
        out.line(f"WRONG: {wrong}", "red")
    return bool(result["ok"])


async def measured(
    here: Place, flow: Flow, sagas: int, at_once: int, out: Output, coordinators: int = 1
) -> tuple[dict[str, Any], str]:
    """Starts the product, warms it up, measures a run and checks it; the result, and the prefix of its keys."""
    processes = [
        *[await here.start(COORDINATOR, "coordinator,relay,timers,projections") for _ in range(coordinators)],
        await here.start("participants", "participants"),
    ]
    async with Upstream(here.broker, flow.topic) as upstream:
        driver = Driver(here, flow, upstream)
        out.say("warming up")
        warm_up = max(WARM_UP_SAGAS_MIN, min(sagas // 10, WARM_UP_SAGAS_MAX))
        await driver.run(f"warm-{uuid.uuid4().hex[:6]}-", warm_up, min(at_once, warm_up))
        prefix = f"bench-{uuid.uuid4().hex[:6]}-"
        before = await _meters(here)
        cpu_before = _cpu_seconds(processes)
        out.say(f"{sagas} {flow.noun}, {at_once} at once")
        seconds, latencies = await driver.run(prefix, sagas, at_once, out)
        cpu = {
            name: round((used - cpu_before[name]) * 1000 / sagas, 3) for name, used in _cpu_seconds(processes).items()
        }
    wrong, records = await checked(here, flow, prefix, sagas)
    after = await _meters(here)
    result = {
        "sagas": sagas,
        "seconds": round(seconds, 3),
        "sagas_per_second": round(sagas / seconds, 1),
        "records": records,
        "records_per_second": round(records / seconds, 1),
        "bytes_per_saga": round((after["database_bytes"] - before["database_bytes"]) / sagas),
        "wal_bytes_per_saga": round((after["wal_bytes"] - before["wal_bytes"]) / sagas),
        "latency_ms": percentiles(latencies),
        "cpu_ms_per_saga": cpu,
        "wrong": wrong,
    }
    return result, prefix


def _cpu_seconds(processes: Sequence[Process]) -> dict[str, float]:
    """Processor time by the name of a process, those of one name together; without those of whom nobody knows."""
    used: dict[str, float] = defaultdict(float)
    for process in processes:
        used[process.name] += process.cpu_seconds() or 0.0
    return used


async def _meters(here: Place) -> dict[str, int]:
    """Sizes that grow: of the database, and of what was written ahead of it."""
    return {name: (await here.fetch(name))[0]["bytes"] for name in ("database_bytes", "wal_bytes")}


class Driver:
    """An upstream service that starts sagas and hears their ends."""

    def __init__(self, here: Place, flow: Flow, upstream: Upstream) -> None:
        self._here, self._flow, self._upstream = here, flow, upstream
        self._contract = here.catalog.registry.get(flow.starts_on)

    async def run(self, prefix: str, sagas: int, at_once: int, out: Output | None = None) -> tuple[float, list[float]]:
        """Starts sagas, `at_once` under way; seconds from the first to the last, and each one's latency in ms.

        Raises CliError where a process ended, or nothing ended for QUIET_SECONDS_MAX.
        """
        messages = [self._start(f"{prefix}{number}", number) for number in range(sagas)]
        sent_at: dict[bytes, float] = {}
        latencies: list[float] = []
        began = heard_at = time.perf_counter()
        next_one, said = min(at_once, sagas), 0
        sending = asyncio.create_task(self._send(messages[:next_one], sent_at))
        while len(latencies) < sagas:
            ended = await self._ends(sent_at)
            if ended:
                heard_at = time.perf_counter()
                latencies += ended
                more = messages[next_one : next_one + len(ended)]
                next_one += len(more)
                await self._send(more, sent_at)
            if out is not None and len(latencies) * 10 // sagas > said:
                said = len(latencies) * 10 // sagas
                out.say(f"{len(latencies)} of {sagas} over, {len(latencies) / (time.perf_counter() - began):.0f}/s")
            for process in self._here.processes:
                process.check()
            if time.perf_counter() - heard_at > QUIET_SECONDS_MAX:
                left = sagas - len(latencies)
                raise CliError(ExitCode.TIME_OUT, f"{left} {self._flow.noun} have not ended, and nothing ends any more")
        await sending
        return time.perf_counter() - began, latencies

    async def _ends(self, sent_at: dict[bytes, float]) -> list[float]:
        """The latencies, in ms, of the sagas whose end has come now. An end that is heard twice counts once."""
        found = []
        for message in await self._upstream.hear(FETCH_MESSAGES):
            if message.key in sent_at and dict(message.headers).get("ce_type") in self._flow.ends:
                found.append((time.perf_counter() - sent_at.pop(message.key)) * 1000)
        return found

    def _start(self, key: str, number: int) -> OutgoingMessage:
        return event(self._contract, self._flow.topic, key, self._flow.start(key, number, compensating(number)))

    async def _send(self, messages: list[OutgoingMessage], sent_at: dict[bytes, float]) -> None:
        for start in range(0, len(messages), SEND_BATCH_MESSAGES):
            batch = messages[start : start + SEND_BATCH_MESSAGES]
            now = time.perf_counter()
            sent_at.update((message.key, now) for message in batch if message.key is not None)
            await self._upstream.send(batch)


def compensating(number: int) -> bool:
    """Whether this one of a run is to be refused and undone."""
    return number % COMPENSATING_EVERY == COMPENSATING_EVERY - 1


async def checked(here: Place, flow: Flow, prefix: str, sagas: int) -> tuple[list[str], int]:
    """What is wrong with a run, in words, and how many records it wrote. Waits a moment for the last marks."""
    undone = sum(map(compensating, range(sagas)))
    expected = {"completed": sagas - undone, "compensated": undone}
    wrong: list[str] = []
    records = 0
    for attempt in range(50):
        rows = await here.fetch("sagas", prefix)
        counts = {row["phase"]: row["sagas"] for row in rows}
        records = sum(row["records"] for row in rows)
        left = dict((await here.fetch("leftovers"))[0])
        wrong = [] if counts == {k: v for k, v in expected.items() if v} else [f"sagas ended {counts}, not {expected}"]
        wrong += [f"{count} {name} are left over" for name, count in left.items() if count]
        if not wrong or attempt == 49:
            break
        await asyncio.sleep(0.1)
    wrong += await flow.unbalanced(here, prefix)
    return wrong, records


def percentiles(latencies: list[float]) -> dict[str, float]:
    """Median, 99th percentile and largest, in milliseconds."""
    found = sorted(latencies)
    return {
        "p50": round(found[len(found) // 2], 1),
        "p99": round(found[min(len(found) - 1, len(found) * 99 // 100)], 1),
        "max": round(found[-1], 1),
    }


async def machine(here: Place) -> dict[str, Any]:
    """What the numbers were measured on."""
    return {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "partitions": here.settings.topic_partitions,
        "postgres": {row["name"]: row["setting"] for row in await here.fetch("settings")},
    }
