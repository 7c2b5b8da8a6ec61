"""What traces cost: processor time for each saga at a fixed load, with none, some and all of them sampled.

Rules of this file
- The shipped processes, a real broker, a durable PostgreSQL, and a collector that really listens and reads everything.
- The runs take turns (none, some, all, and again), so that whatever else the machine does hits each alike; ratios are
  those of the medians. Counted is what all processes of the product and of PostgreSQL used, not the collector's.
- A rate of 0 is as fast as it goes: then the throughput is what is compared.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import orjson

from orchestrator.bench.flow import FETCH_MESSAGES, Driver, checked, machine
from orchestrator.bench.place import BrokerKind, Place, Process, place
from orchestrator.bench.steps.flow import STEPS
from orchestrator.bench.upstream import Upstream
from orchestrator.cli.output import CliError, ExitCode, Output

ROLES = "coordinator,relay,timers,projections,traces"
TICK_SECONDS = 0.02
LATE_SECONDS_MAX = 120.0
WARM_UP_SAGAS = 200
SETTLE_SECONDS = 2.5  # what was kept in memory is sent by then, and counted


@dataclass(frozen=True)
class TraceOptions:
    """What to run. `rate`: sagas a second, 0 for as fast as it goes. `ratios`: shares that are sampled; 0 is none."""

    sagas: int
    broker: BrokerKind
    rate: int
    ratios: tuple[float, ...]
    turns: int


async def bench_traces(options: TraceOptions, out: Output) -> bool:
    """Runs the bench and prints its result; True where every saga ended as it must."""
    runs: dict[float, list[dict[str, Any]]] = {ratio: [] for ratio in options.ratios}
    async with place(options.broker, STEPS.modules) as here:
        with sink() as url:
            for turn in range(options.turns):
                for ratio in options.ratios:
                    out.say(f"turn {turn + 1}: {ratio:.0%} sampled")
                    runs[ratio].append(await _run(here, options, ratio, url))
        settings = {**await machine(here), "broker": options.broker, "rate": options.rate, "turns": options.turns}
    base = _median(runs[options.ratios[0]], "cpu_ms_per_saga")
    speed = _median(runs[options.ratios[0]], "sagas_per_second")
    results = [
        {
            "sampled": ratio,
            "cpu_ms_per_saga": round(_median(found, "cpu_ms_per_saga"), 3),
            "cpu_ratio": round(_median(found, "cpu_ms_per_saga") / base, 3),
            "sagas_per_second": round(_median(found, "sagas_per_second"), 1),
            "speed_ratio": round(_median(found, "sagas_per_second") / speed, 3),
            "spans_per_saga": round(_median(found, "spans_per_saga"), 1),
            "runs": found,
        }
        for ratio, found in runs.items()
    ]
    wrong = [text for found in runs.values() for run in found for text in run["wrong"]]
    out.object({"ok": not wrong, "bench": "traces", "results": results, "wrong": wrong, "settings": settings})
    rows = [
        (f"{r['sampled']:.0%}", str(r["cpu_ms_per_saga"]), str(r["cpu_ratio"]), str(r["sagas_per_second"]),
         str(r["spans_per_saga"]))
        for r in results
    ]  # fmt: skip
    out.table(("sampled", "CPU ms/saga", "ratio", "sagas/s", "spans/saga"), rows)
    for text in wrong:
        out.line(f"WRONG: {text}", "red")
    return not wrong


async def _run(here: Place, options: TraceOptions, ratio: float, url: str) -> dict[str, Any]:
    """One run: the product is started, warmed up, loaded, and stopped."""
    variables = {"OTEL_SDK_DISABLED": "true"}
    if ratio:
        variables = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{url}/v1/traces",
            "OTEL_TRACES_SAMPLER": "traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(ratio),
        }
    processes = [
        await here.start("coordinator", ROLES, variables=variables),
        await here.start("participants", "participants", variables=variables),
    ]
    prefix = f"traced-{uuid.uuid4().hex[:6]}-"
    try:
        async with Upstream(here.broker, STEPS.topic) as upstream:
            driver = Paced(here, STEPS, upstream)
            await driver.run(f"warm-{uuid.uuid4().hex[:6]}-", WARM_UP_SAGAS, WARM_UP_SAGAS)
            before, spans = _cpu_seconds(here, processes), _spans(url)
            seconds = await driver.offer(prefix, options.sagas, options.rate)
        await asyncio.sleep(SETTLE_SECONDS)
        used = _cpu_seconds(here, processes) - before
        wrong, _ = await checked(here, STEPS, prefix, options.sagas)
    finally:
        here.stop()
    return {
        "cpu_ms_per_saga": round(used * 1000 / options.sagas, 3),
        "sagas_per_second": round(options.sagas / seconds, 1),
        "spans_per_saga": round((_spans(url) - spans) / options.sagas, 2),
        "wrong": wrong,
    }


class Paced(Driver):
    """An upstream service that sends at a steady rate."""

    async def paced(self, prefix: str, sagas: int, rate: int) -> float:
        """Starts so many sagas a second; seconds until the last has ended. Raises CliError where they do not end."""
        messages = [self._start(f"{prefix}{number}", number) for number in range(sagas)]
        sent_at: dict[bytes, float] = {}
        began, sent, over = time.perf_counter(), 0, 0
        while over < sagas:
            now = time.perf_counter() - began
            due = min(int(now * rate) + 1, sagas)
            if due > sent:
                await self._send(messages[sent:due], sent_at)
                sent = due
            over += len(await self._ends(sent_at))
            await asyncio.sleep(TICK_SECONDS if len(sent_at) < FETCH_MESSAGES else 0)
            if now > sagas / rate + LATE_SECONDS_MAX:
                raise CliError(ExitCode.TIME_OUT, f"{sagas - over} sagas have not ended: the machine is too slow")
        return time.perf_counter() - began

    async def offer(self, prefix: str, sagas: int, rate: int) -> float:
        """At that rate, or with `rate` 0 as fast as it goes; seconds until the last has ended."""
        return await self.paced(prefix, sagas, rate) if rate else (await self.run(prefix, sagas, sagas))[0]


def _cpu_seconds(here: Place, processes: list[Process]) -> float:
    """Of the product and of PostgreSQL, as the system counts it. Raises CliError where it does not say."""
    used = [process.cpu_seconds() for process in processes]
    if None in used:
        raise CliError(ExitCode.FAILED, "this system does not tell processor time by process", "run it on Linux")
    return sum(seconds for seconds in used if seconds is not None) + server_seconds(here.directory)


def server_seconds(directory: Path) -> float:
    """Processor time of the PostgreSQL below a directory: its processes, and those of its that have ended."""
    pid_file = next(directory.rglob("postmaster.pid"))
    server = int(pid_file.read_text().split()[0])
    ticks = 0
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(status.parent.name) == server:
            ticks += sum(map(int, fields[11:15]))  # its own, and of children that have ended
        elif int(fields[1]) == server:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def _spans(url: str) -> int:
    with httpx2.Client(trust_env=False) as client:
        answer = client.get(url)
        return int(orjson.loads(answer.content)["spans"])


def _median(runs: list[dict[str, Any]], name: str) -> float:
    return float(statistics.median(run[name] for run in runs))


@contextmanager
def sink() -> Iterator[str]:
    """The URL of a collector in a process of its own, ended afterwards."""
    process = subprocess.Popen([sys.executable, "-m", "orchestrator.bench.sink"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.communicate()
