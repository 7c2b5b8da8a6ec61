"""What sealing personal values costs: processor time for each order at a fixed load, without a vault and with one.

Rules of this file
- Two places of their own, each with its database and broker: a database that has sealed values is never worked on
  without their keys. The same orders go to both, in turns, so that whatever else the machine does hits each alike.
- Counted is what all processes of the product and of PostgreSQL used; ratios are those of the medians.
- An order says a customer and an address; each of its customers comes again, as customers do.
"""

from __future__ import annotations

import asyncio
import statistics
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from orchestrator.bench.flow import checked, machine
from orchestrator.bench.orders import ORDERS
from orchestrator.bench.place import BrokerKind, Place, Process, place
from orchestrator.bench.traces import Paced, server_seconds
from orchestrator.bench.upstream import Upstream
from orchestrator.cli.output import CliError, ExitCode, Output
from orchestrator.vault import keyfile

ROLES = "coordinator,relay,timers,projections"
WARM_UP_SAGAS = 200
SETTLE_SECONDS = 2.0  # read models have caught up by then, and are counted
POSTGRES = "postgres"


@dataclass(frozen=True)
class SealingOptions:
    """What to run. `rate`: orders a second, 0 for as fast as it goes. `turns`: how often each has its turn."""

    sagas: int
    broker: BrokerKind
    rate: int
    turns: int


async def bench_sealing(options: SealingOptions, out: Output) -> bool:
    """Runs the bench and prints its result; True where every order ended as it must, and was sealed where it should."""
    runs: dict[str, list[dict[str, Any]]] = {"plain": [], "sealed": []}
    async with AsyncExitStack() as stack:
        places = {name: await stack.enter_async_context(place(options.broker, ORDERS.modules)) for name in runs}
        for turn in range(options.turns):
            for name, here in places.items():
                out.say(f"turn {turn + 1}: {name}")
                runs[name].append(await _run(here, options, sealed=name == "sealed"))
        settings = {**await machine(places["plain"]), "broker": options.broker, "rate": options.rate}
    results = {name: _medians(found) for name, found in runs.items()}
    ratios = {
        name: round(results["sealed"]["cpu_ms_per_saga"][name] / used, 3) if used else None
        for name, used in results["plain"]["cpu_ms_per_saga"].items()
    }
    wrong = [text for found in runs.values() for run in found for text in run["wrong"]]
    out.object(
        {
            "ok": not wrong, "bench": "sealing", "results": results, "cpu_ratios": ratios, "runs": runs, "wrong": wrong,
            "settings": {**settings, "turns": options.turns},
        }
    )  # fmt: skip
    rows = [
        (part, *(str(results[name]["cpu_ms_per_saga"][part]) for name in runs), str(ratios[part])) for part in ratios
    ]
    rows.append(("orders/s", *(str(results[name]["sagas_per_second"]) for name in runs), ""))
    out.table(("CPU ms/order", "plain", "sealed", "ratio"), rows)
    for text in wrong:
        out.line(f"WRONG: {text}", "red")
    return not wrong


async def _run(here: Place, options: SealingOptions, *, sealed: bool) -> dict[str, Any]:
    """One run: the product is started, warmed up, loaded, and stopped."""
    variables = {"OTEL_SDK_DISABLED": "true"}
    if sealed:
        path = here.directory.absolute() / "keys" / "vault.keys"
        keyfile.read_or_create(path)
        variables["ORCHESTRATOR_VAULT_KEY_FILE"] = str(path)
    processes = [
        await here.start("coordinator", ROLES, variables=variables),
        await here.start("participants", "participants", variables=variables),
    ]
    prefix = f"order-{uuid.uuid4().hex[:6]}-"
    try:
        async with Upstream(here.broker, ORDERS.topic) as upstream:
            driver = Paced(here, ORDERS, upstream)
            await driver.run(f"warm-{uuid.uuid4().hex[:6]}-", WARM_UP_SAGAS, WARM_UP_SAGAS)
            await asyncio.sleep(SETTLE_SECONDS)
            before = _used(here, processes)
            seconds = await driver.offer(prefix, options.sagas, options.rate)
        await asyncio.sleep(SETTLE_SECONDS)
        after = _used(here, processes)
        wrong, _ = await checked(here, ORDERS, prefix, options.sagas)
        keys = (await here.fetch("sealing_keys"))[0]["keys"]
        if bool(keys) != sealed:
            wrong.append(f"there are {keys} keys of persons: it was {'not ' if sealed else ''}sealed")
    finally:
        here.stop()
    cpu = {name: round((after[name] - used) * 1000 / options.sagas, 3) for name, used in before.items()}
    return {
        "cpu_ms_per_saga": {"all": round(sum(cpu.values()), 3), **cpu},
        "sagas_per_second": round(options.sagas / seconds, 1),
        "wrong": wrong,
    }


def _used(here: Place, processes: list[Process]) -> dict[str, float]:
    """Processor seconds by process, PostgreSQL as one. Raises CliError where the system does not say."""
    used = {process.name: process.cpu_seconds() for process in processes}
    if None in used.values():
        raise CliError(ExitCode.FAILED, "this system does not tell processor time by process", "run it on Linux")
    return {name: seconds for name, seconds in used.items() if seconds is not None} | {
        POSTGRES: server_seconds(here.directory)
    }


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    parts = runs[0]["cpu_ms_per_saga"]
    return {
        "cpu_ms_per_saga": {
            part: round(statistics.median(run["cpu_ms_per_saga"][part] for run in runs), 3) for part in parts
        },
        "sagas_per_second": round(statistics.median(run["sagas_per_second"] for run in runs), 1),
    }
