"""What evidence costs, per record, CPU time of this process and of the database, in one run.

Run: `python -m tests.perf.evidence_speed [records]`. Ratios within one run count; times on a busy machine do not. For
the throughput of the whole product with and without sealing: `orchestrator bench steps`, once as it is and once with
ORCHESTRATOR_EVIDENCE_SEAL_MS=2000 in its environment, interleaved.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
import time
from collections.abc import Callable

import orjson

from orchestrator.evidence.nodes import Growing
from orchestrator.evidence.sealing import Sealer
from orchestrator.evidence.verifying import Verification
from orchestrator.store.chain import data_bytes, seal
from orchestrator.store.contract import NewRecord
from orchestrator.store.postgres import PostgresStore
from tests.databases import running_server
from tests.evidence.logs import grown, ring

DATA = {
    "step": "hold_funds", "command": "accounts.HoldFunds", "attempt": 1, "at": 1_795_228_200_000_000,
    "payload": {"account": "GB00-1234", "amount": "1250.00", "currency": "GBP", "reference": "invoice 4711",
                "customer": "CUST00012", "memo": "a text of some length, as people write them"},
}  # fmt: skip
RECORD = NewRecord("step.requested", "hold_funds", DATA, "system", "cause-1", "00-" + "a" * 32 + "-" + "b" * 16 + "-01")


def cpu_us(work: Callable[[], object], times: int) -> float:
    """CPU microseconds of this process for one of so many."""
    best = float("inf")
    for _ in range(5):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best / times * 1_000_000


def chain(count: int = 20_000) -> None:
    """Canonical bytes and chain against the cheapest way to store the same."""
    records = [RECORD] * 20
    runs = count // len(records)

    def bare() -> None:
        for _ in range(runs):
            for record in records:
                orjson.dumps({"data": record.data, "type": record.type, "actor": record.actor, "saga": "x"})

    def chained() -> None:
        for _ in range(runs):
            data = [data_bytes(record.data) for record in records]
            seal(records, data, tenant="main", saga_id="x", version=0, previous=b"", recorded_at=1)

    leaves = b"".join(hashlib.sha256(str(n).encode()).digest() for n in range(count))
    one, two, three = cpu_us(bare, count), cpu_us(chained, count), cpu_us(lambda: Growing().add(leaves), count)
    print(f"JSON alone {one:.2f} us, canonical bytes and chain {two:.2f} us: {two - one:+.2f} us a record")
    print(f"tree and tiles while sealing {three:.2f} us a record (a few seconds later, in one process of all)")


async def whole(records: int) -> None:
    """Sealing and verifying a log of so many records, small ones, in a database of its own."""
    async with running_server() as server, server.database() as database, PostgresStore(database.url) as store:
        began, wall = time.process_time(), time.perf_counter()
        await grown(store, records, sagas=500, batch=50)
        wrote, wrote_wall = time.process_time() - began, time.perf_counter() - wall
        sealer = Sealer(store, ring(), records_max=20_000)
        began, wall = time.process_time(), time.perf_counter()
        while await sealer.seal() is not None:
            pass
        sealed, sealed_wall = time.process_time() - began, time.perf_counter() - wall
        began = time.process_time()
        report = await Verification(store, ring()).run()
        verified = time.process_time() - began
        assert report.is_good
        for name, seconds, all_seconds in (
            ("write", wrote, wrote_wall), ("seal", sealed, sealed_wall), ("verify", verified, report.seconds),
        ):  # fmt: skip
            print(
                f"{name}: {seconds / records * 1e6:.1f} us CPU here, {all_seconds / records * 1e6:.1f} us wall a record"
            )
        print(f"sealing is {sealed_wall / wrote_wall:.1%} of the wall time of writing, {sealed / wrote:.1%} of our CPU")
        print(next(report.lines()))


if __name__ == "__main__":
    chain()
    asyncio.run(whole(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000))
