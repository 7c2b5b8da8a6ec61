"""`orchestrator bench orders`: how many orders a second, from the event on the broker to the event that says its end.

Rules of this file
- The driver is an upstream service: it publishes `orders.OrderPlaced` and waits for `orders.OrderConfirmed` or
  `orders.OrderFailed`. Coordinator and participants are two processes of the shipped product.
- One order in ten has an address that no carrier knows, so its payment is refunded and its goods go back.
- The result counts only if it is right: every start ended as it must, ledgers balance, nothing is left over.
"""

from __future__ import annotations

import asyncio
import os
import platform
import time
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.bench.bare import bare_loop, weight_of
from orchestrator.bench.place import BrokerKind, Place, Process, place
from orchestrator.bench.upstream import Upstream, event
from orchestrator.broker.contract import OutgoingMessage
from orchestrator.cli.output import CliError, ExitCode, Output
from orchestrator.messages import Contract

SAGAS = "sagas.orders"
COORDINATOR = "coordinator"
TOPIC = "orders.events"
WARM_UP_SAGAS_MIN, WARM_UP_SAGAS_MAX = 50, 2_000  # a tenth of the run: the JVM of a new Kafka compiles for a while
BARE_SAGAS_MAX = 10_000
SHOWN = ("sagas", "sagas_per_second", "ratio_to_limit", "records_per_second", "bytes_per_saga", "latency_ms",
         "cpu_ms_per_saga")  # fmt: skip
COMPENSATING_EVERY = 10
SEND_BATCH_MESSAGES = 500
FETCH_MESSAGES = 1_000
QUIET_SECONDS_MAX = 60.0  # without a single end, something is wrong
SKUS = ("lamp", "chair", "desk", "shelf")
ENDS = {b"orders.OrderConfirmed", b"orders.OrderFailed"}


@dataclass(frozen=True)
class OrdersOptions:
    """What to run. concurrency: how many orders are under way at once, or "open" for all of them. coordinators: how
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


async def bench_orders(options: OrdersOptions, out: Output) -> bool:
    """Runs the bench and prints its result; True where everything that was started ended as it must."""
    at_once = options.at_once
    out.say(f"starting PostgreSQL and {options.broker} broker")
    async with place(options.broker, SAGAS) as here:
        found, prefix = await measured(here, options.sagas, at_once, out, options.coordinators)
        here.stop()
        out.say("the bare loop: the same bytes and rows, nothing decided")
        weight = weight_of((await here.fetch("per_saga", prefix))[0])
        bare = min(options.sagas, BARE_SAGAS_MAX)
        limit = bare / await bare_loop(here, weight, bare)
        result = {
            "ok": not found["wrong"],
            "bench": "orders",
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
    here: Place, sagas: int, at_once: int, out: Output, coordinators: int = 1
) -> tuple[dict[str, Any], str]:
    """Starts the product, warms it up, measures a run and checks it; the result, and the prefix of its keys."""
    processes = [
        *[await here.start(COORDINATOR, "coordinator,relay,timers") for _ in range(coordinators)],
        await here.start("participants", "participants"),
    ]
    async with Upstream(here.broker, TOPIC) as upstream:
        driver = Driver(here, upstream)
        out.say("warming up")
        warm_up = max(WARM_UP_SAGAS_MIN, min(sagas // 10, WARM_UP_SAGAS_MAX))
        await driver.run(f"warm-{uuid.uuid4().hex[:6]}-", warm_up, min(at_once, warm_up))
        prefix = f"bench-{uuid.uuid4().hex[:6]}-"
        before = await _meters(here)
        cpu_before = _cpu_seconds(processes)
        out.say(f"{sagas} orders, {at_once} at once")
        seconds, latencies = await driver.run(prefix, sagas, at_once, out)
        cpu = {
            name: round((used - cpu_before[name]) * 1000 / sagas, 3) for name, used in _cpu_seconds(processes).items()
        }
    wrong, records = await checked(here, prefix, sagas)
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
    """An upstream service that places orders and hears their ends."""

    def __init__(self, here: Place, upstream: Upstream) -> None:
        self._here, self._upstream = here, upstream
        self._contract = here.catalog.registry.get("orders.OrderPlaced")

    async def run(self, prefix: str, sagas: int, at_once: int, out: Output | None = None) -> tuple[float, list[float]]:
        """Places orders, `at_once` under way; seconds from the first to the last, and each one's latency in ms.

        Raises CliError where a process ended, or nothing ended for QUIET_SECONDS_MAX.
        """
        messages = [order(self._contract, f"{prefix}{number}", number) for number in range(sagas)]
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
                raise CliError(ExitCode.TIME_OUT, f"{left} orders have not ended, and nothing ends any more")
        await sending
        return time.perf_counter() - began, latencies

    async def _ends(self, sent_at: dict[bytes, float]) -> list[float]:
        """The latencies, in ms, of the orders whose end has come now. An end that is heard twice counts once."""
        found = []
        for message in await self._upstream.hear(FETCH_MESSAGES):
            if message.key in sent_at and dict(message.headers).get("ce_type") in ENDS:
                found.append((time.perf_counter() - sent_at.pop(message.key)) * 1000)
        return found

    async def _send(self, messages: list[OutgoingMessage], sent_at: dict[bytes, float]) -> None:
        for start in range(0, len(messages), SEND_BATCH_MESSAGES):
            batch = messages[start : start + SEND_BATCH_MESSAGES]
            now = time.perf_counter()
            sent_at.update((message.key, now) for message in batch if message.key is not None)
            await self._upstream.send(batch)


def order(contract: type[Contract], order_id: str, number: int) -> OutgoingMessage:
    """One order as a message; every tenth cannot be shipped."""
    address = "nowhere" if number % COMPENSATING_EVERY == COMPENSATING_EVERY - 1 else "1 Main Street"
    data = {
        "order_id": order_id,
        "customer_id": f"CUST{number % 1000:05}",
        "lines": [{"sku": SKUS[number % len(SKUS)], "quantity": 1, "unit_price": "19.90"}],
        "card": "card-gold",
        "address": address,
    }
    return event(contract, TOPIC, order_id, data)


async def checked(here: Place, prefix: str, sagas: int) -> tuple[list[str], int]:
    """What is wrong with a run, in words, and how many records it wrote. Waits a moment for the last marks."""
    compensating = sum(number % COMPENSATING_EVERY == COMPENSATING_EVERY - 1 for number in range(sagas))
    expected = {"completed": sagas - compensating, "compensated": compensating}
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
    unbalanced = (await here.fetch("orders_out_of_balance", prefix))[0]["orders"]
    if unbalanced:
        wrong.append(f"{unbalanced} orders whose ledgers do not say what their sagas say")
    articles = (await here.fetch("stock_out_of_balance"))[0]["articles"]
    if articles:
        wrong.append(f"{articles} articles whose stock is not what the ledger says")
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
