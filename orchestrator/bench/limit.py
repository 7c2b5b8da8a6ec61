"""`orchestrator bench limit`: the bare loop alone (bare.py), weighed by a small run of the real product."""

from __future__ import annotations

from orchestrator.bench.bare import bare_loop, weight_of
from orchestrator.bench.flow import machine, measured
from orchestrator.bench.orders import ORDERS
from orchestrator.bench.place import BrokerKind, place
from orchestrator.cli.output import Output

SAMPLE_SAGAS = 100


async def bench_limit(sagas: int, kind: BrokerKind, out: Output) -> None:
    """Runs the bare loop and prints its result. Raises CliError where it cannot."""
    out.say(f"starting PostgreSQL and {kind} broker")
    async with place(kind, ORDERS.modules) as here:
        out.say("weighing an order")
        _, prefix = await measured(here, ORDERS, SAMPLE_SAGAS, SAMPLE_SAGAS, out)
        here.stop()
        weight = weight_of((await here.fetch("per_saga", prefix))[0])
        seconds = await bare_loop(here, weight, sagas)
        settings = await machine(here)
    result = {
        "ok": True,
        "bench": "limit",
        "sagas": sagas,
        "seconds": round(seconds, 3),
        "sagas_per_second": round(sagas / seconds, 1),
        "records_per_second": round(sagas * weight.records / seconds, 1),
        "per_saga": {name: round(value, 1) for name, value in vars(weight).items()},
        "settings": {**settings, "broker": kind},
    }
    out.object(result)
    for name in ("sagas_per_second", "records_per_second", "per_saga"):
        out.line(f"{name:<20} {result[name]}")
