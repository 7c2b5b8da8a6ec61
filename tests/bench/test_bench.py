"""A small bench through the shipped processes: it counts, and it notices when its result is wrong."""

from __future__ import annotations

import pytest

from orchestrator.bench.bare import Weight, bare_loop, weight_of
from orchestrator.bench.flow import FlowOptions, checked, measured, percentiles
from orchestrator.bench.grown import fill
from orchestrator.bench.orders import ORDERS
from orchestrator.bench.parked import SAGAS as PARKED
from orchestrator.bench.parked import gathered
from orchestrator.bench.place import place
from orchestrator.bench.steps.flow import STEPS
from orchestrator.cli.output import CliError, Output

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

SAGAS = 40


async def test_orders_are_counted_and_wrong_ledgers_are_found() -> None:
    """A run is right; then somebody takes a piece, a refund and an ending away, and each is said."""
    out = Output(as_json=True)
    async with place("postgres", "sagas.orders") as here:
        found, prefix = await measured(here, ORDERS, SAGAS, 8, out)
        assert found["wrong"] == []
        assert found["sagas_per_second"] > 0
        assert found["records"] > SAGAS * 8
        assert 0 < found["latency_ms"]["p50"] <= found["latency_ms"]["p99"] <= found["latency_ms"]["max"]
        assert all(used > 0 for used in found["cpu_ms_per_saga"].values())
        assert found["wal_bytes_per_saga"] > 1_000
        weight = weight_of((await here.fetch("per_saga", prefix))[0])
        assert weight.records == pytest.approx(found["records"] / SAGAS)
        here.stop()
        async with here.pools.connection("work") as connection:
            await connection.execute("UPDATE inventory.stock SET available = available - 1 WHERE sku = 'lamp'")
            await connection.execute("DELETE FROM payments.entries WHERE kind = 'refund'")
        wrong, _ = await checked(here, ORDERS, prefix, SAGAS)
        assert wrong == [
            f"{SAGAS // 10} orders whose ledgers do not say what their sagas say",
            "1 articles whose stock is not what the ledger says",
        ]
        wrong, _ = await checked(here, ORDERS, prefix, SAGAS + 10)
        assert wrong[0].startswith("sagas ended {")
        seconds = await bare_loop(here, Weight(4, 100, 3, 200, 2, 4), 250)
        assert seconds > 0
        async with here.pools.connection("work") as connection:
            row = await connection.fetchrow("SELECT count(*) AS rows FROM limit_records")
        assert row["rows"] == 750
        stored = (await here.fetch("stored_sagas"))[0]["sagas"]
        inboxes = ("inventory.inbox", "payments.inbox", "shipping.inbox")
        async with here.pools.connection("report") as connection:
            taken = {name: (await connection.fetch(f"SELECT count(*) FROM {name}"))[0][0] for name in inboxes}
        assert all(taken.values())
        assert await fill(here, stored * 3, out) == stored * 4
        async with here.pools.connection("report") as connection:
            for name, before in taken.items():
                assert (await connection.fetch(f"SELECT count(*) FROM {name}"))[0][0] == before * 4


LIES = {
    "an undo that was lost": "DELETE FROM bench_hotels.bookings WHERE kind = 'cancelled' AND trip_id = $1 || '9'",
    "undone in the wrong order": "UPDATE bench_flights.bookings SET entered_at = entered_at - interval '1 hour' "
    "WHERE kind = 'cancelled' AND trip_id = $1 || '19'",
    "a step that was lost": "DELETE FROM bench_cars.bookings WHERE trip_id = $1 || '0'",
    "a step that was done twice": "INSERT INTO bench_cars.bookings (key, booking_id, trip_id, kind) "
    "VALUES ('again', 'again', $1 || '1', 'booked')",
    "a step of no saga": "INSERT INTO bench_flights.bookings (key, booking_id, trip_id, kind) "
    "VALUES ('x', 'x', $1 || 'x', 'booked')",
}


async def test_three_steps_are_counted_and_each_lie_of_their_ledgers_is_found() -> None:
    """As many trips are wrong as lies were told; a tenth of a run was refused a car and went back."""
    out = Output(as_json=True)
    async with place("postgres", STEPS.modules) as here:
        found, prefix = await measured(here, STEPS, SAGAS, 8, out)
        assert found["wrong"] == []
        weight = weight_of((await here.fetch("per_saga", prefix))[0])
        assert weight.records == pytest.approx(found["records"] / SAGAS)
        assert 4 < weight.outbox_rows < 5  # three commands and the end; where it is refused also two undos
        here.stop()
        for told, lie in enumerate(LIES.values(), 1):
            async with here.pools.connection("work") as connection:
                assert await connection.execute(lie, prefix) == 1
            wrong, _ = await checked(here, STEPS, prefix, SAGAS)
            assert wrong == [f"{told} trips whose bookings do not say what their sagas say"]


async def test_sagas_park_until_somebody_approves() -> None:
    """Each wake is one approval over HTTP and one step that was carried out; the rest stays parked."""
    out = Output(as_json=True)
    async with place("postgres", PARKED) as here:
        coordinator = await here.start("coordinator", "coordinator,relay,timers,api", api=True)
        await here.start("participants", "participants")
        async with gathered(here) as crowd:
            seconds, memory = await crowd.park(30, coordinator, out)
            assert seconds > 0
            assert memory["all"] > 20
            took = await crowd.wake(5)
            assert len(took) == 5
            assert all(ms > 0 for ms in took)
            assert (await here.fetch("open_tasks"))[0]["tasks"] == 25


async def test_a_process_that_dies_ends_the_bench_with_its_last_words() -> None:
    """Instead of waiting for ends that cannot come."""
    async with place("postgres", "sagas.orders") as here:
        process = await here.start("participants", "participants")
        process.popen.kill()
        process.popen.wait()
        with pytest.raises(CliError, match="process participants ended with -9"):
            process.check()
        with pytest.raises(CliError, match="ended with 2"):
            await here.start("wrong", "no-such-role")


@pytest.mark.parametrize("text", ["", "0", "-1", "many", "1.5"])
def test_a_concurrency_is_a_number_or_open(text: str) -> None:
    """And says so."""
    with pytest.raises(CliError):
        _ = FlowOptions(10, "postgres", text).at_once
    assert FlowOptions(10, "postgres", "open").at_once == 10
    assert FlowOptions(10, "postgres", "32").at_once == 32


def test_percentiles_are_those_of_the_list() -> None:
    """Of one value, and of a hundred."""
    assert percentiles([5.0]) == {"p50": 5.0, "p99": 5.0, "max": 5.0}
    assert percentiles([float(n) for n in range(1, 101)]) == {"p50": 51.0, "p99": 100.0, "max": 100.0}
