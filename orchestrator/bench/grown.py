"""`orchestrator bench grown`: what an order costs in a store that has a million of them, compared with an empty one.

Rules of this file
- Both runs are the same run of the shipped product, one before and one after the store was filled.
- The store is filled by copying the rows of the first run under other ids: the database cannot tell them from orders
  that really ran, and playing a million would take half an hour. The copies' hash chains are those of their originals,
  so nothing here says anything about verifying them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.bench.flow import machine, measured
from orchestrator.bench.orders import ORDERS
from orchestrator.bench.place import SQL, BrokerKind, Place, place
from orchestrator.cli.output import Output

STORE = ("fill_heads", "fill_records", "fill_outbox", "fill_inbox")


@dataclass(frozen=True)
class GrownOptions:
    """sagas: orders of each run. stored: how many the store holds before the second."""

    sagas: int
    stored: int
    broker: BrokerKind


async def bench_grown(options: GrownOptions, out: Output) -> bool:
    """Runs the bench and prints its result; True where both runs ended as they must."""
    out.say(f"starting PostgreSQL and {options.broker} broker")
    async with place(options.broker, ORDERS.modules) as here:
        empty, _ = await measured(here, ORDERS, options.sagas, options.sagas, out)
        here.stop()
        stored = await fill(here, options.stored, out)
        grown, _ = await measured(here, ORDERS, options.sagas, options.sagas, out)
        result: dict[str, Any] = {
            "ok": not empty["wrong"] and not grown["wrong"],
            "bench": "grown",
            "stored_sagas": stored,
            "sagas_per_second": {"empty": empty["sagas_per_second"], "grown": grown["sagas_per_second"]},
            "cpu_ms_per_saga": {"empty": empty["cpu_ms_per_saga"], "grown": grown["cpu_ms_per_saga"]},
            "cost_ratio": round(grown["seconds"] / empty["seconds"], 2),
            "wrong": [*empty["wrong"], *grown["wrong"]],
            "settings": {**await machine(here), "broker": options.broker, "sagas": options.sagas},
        }
    out.object(result)
    for name in ("stored_sagas", "sagas_per_second", "cpu_ms_per_saga", "cost_ratio", "wrong"):
        out.line(f"{name:<20} {result[name]}")
    return bool(result["ok"])


async def fill(here: Place, stored: int, out: Output) -> int:
    """Copies what is there until the store holds about as many sagas; how many it holds then."""
    there = (await here.fetch("stored_sagas"))[0]["sagas"]
    copies = max(1, stored // max(there, 1))
    async with here.pools.connection("report") as connection:
        for name in STORE:
            out.say(f"{name.removeprefix('fill_')}: {copies} copies of {there} orders' rows")
            await connection.execute(SQL[name], copies)
        for participant in here.catalog.participants:
            out.say(f"{participant.name}: the same of its inbox")
            await connection.begin()
            await connection.fetch(SQL["within"], participant.own_schema.name)
            await connection.execute(SQL["fill_participant"], copies)
            await connection.commit()
        out.say("vacuum and checkpoint")
        await connection.execute(SQL["vacuum"])
    await here.as_superuser("checkpoint")
    sagas: int = (await here.fetch("stored_sagas"))[0]["sagas"]
    return sagas
