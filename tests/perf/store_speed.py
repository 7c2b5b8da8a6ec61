"""How many inputs a second one connection commits, on a PostgreSQL that really writes to the disk.

    python -m tests.perf.store_speed [batches]

Each batch is what the coordinator writes for 500 replies to 500 sagas: inbox, two records and a command of some 700 and
1,000 bytes each, a timer that goes and one that comes, the head, eight positions; then the relay's mark. Times are
microseconds per input: the median over batches, the best tenth (on a machine that others use too), the processor time
of this process, and of the database's backend.
"""

from __future__ import annotations

import asyncio
import hashlib
import statistics
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from orchestrator.kernel.effects import Effects, Timer
from orchestrator.store.contract import Append, BatchWrite, MessageId, NewRecord, OutboxRow, SagaStart
from orchestrator.store.embedded import EmbeddedPostgres
from orchestrator.store.migrate import migrate
from orchestrator.store.postgres import PostgresStore

INPUTS = 500
GROUPS = 10  # so many sets of 500 sagas take turns
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HEADERS = tuple((f"ce_attribute{n:02}", b"a value of some forty bytes, as they are.") for n in range(16))
VALUE = b'{"account":"GB29NWBK60161331926819","amount":"6000","currency":"INR","reference":"TRF-88"}'


class Speed:
    """Wall and processor times of named parts."""

    def __init__(self) -> None:
        self.wall: dict[str, list[float]] = defaultdict(list)
        self.cpu: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Measures one run of a part."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self.wall[part].append(time.perf_counter() - wall)
        self.cpu[part].append(time.process_time() - cpu)

    def report(self) -> str:
        """A line per part, and what follows from it."""
        lines = ["microseconds per input    median  best tenth  processor"]
        for part, times in self.wall.items():
            middle, best, cpu = (
                statistics.median(times),
                sorted(times)[len(times) // 10],
                statistics.median(self.cpu[part]),
            )
            lines.append(
                f"{part:24} {middle / INPUTS * 1e6:7.1f} {best / INPUTS * 1e6:11.1f} {cpu / INPUTS * 1e6:10.1f}"
            )
        everything = self.wall["everything"]
        best = sorted(everything)[len(everything) // 10]
        lines.append(f"inputs a second: {INPUTS / statistics.median(everything):,.0f}, best tenth {INPUTS / best:,.0f}")
        return "\n".join(lines)


def appends_of(saga_ids: list[str], versions: dict[str, int], turn: int, last: dict[str, int]) -> list[Append]:
    """A reply came in, the next command goes out."""
    data = {"round": 1, "attempt": 1, "key": "x" * 40, "command": {"type": "bank.HoldFunds", "body": VALUE.decode()}}
    appends = []
    for saga_id in saga_ids:
        version, cause = versions.get(saga_id, 0), f"{saga_id}/{turn}/ok"
        timer = Timer(f"step{turn}", 4_000_000_000_000_000, version + 2, version + 2)
        gone = [f"step{last[saga_id]}"] if saga_id in last else []
        records = [
            NewRecord("step.succeeded", "step1", dict(data), "participant:accounts", cause, TRACE),
            NewRecord("step.requested", "step2", dict(data), "system", cause, TRACE),
        ]
        command = OutboxRow(saga_id, version + 2, "accounts.commands", saga_id, HEADERS, VALUE)
        effects = Effects(timers_set=[timer], timers_cleared=gone)
        appends.append(
            Append(
                saga_id, "main", "transfer", 1, saga_id, version, records, effects, [command], waiting_for=f"step{turn}"
            )
        )
        versions[saga_id], last[saga_id] = version + 2, turn
    return appends


async def run(store: PostgresStore, batches: int) -> Speed:
    """Writes batches; the first ones, which start the sagas and warm up, do not count."""
    speed = Speed()
    groups = [[str(uuid.uuid4()) for _ in range(INPUTS)] for _ in range(GROUPS)]
    versions: dict[str, int] = {}
    last: dict[str, int] = {}
    for turn in range(batches + 2 * GROUPS):
        if turn == 2 * GROUPS:
            speed = Speed()
        saga_ids = groups[turn % GROUPS]
        starts = [SagaStart(saga_id, "main", "transfer", saga_id) for saga_id in saga_ids if turn < GROUPS]
        bodies = [hashlib.sha256(f"{saga_id}{turn}".encode()).digest() for saga_id in saga_ids]
        messages = [
            MessageId("main", "/participants/accounts", f"{saga_id}/{turn}/ok", body)
            for saga_id, body in zip(saga_ids, bodies, strict=True)
        ]
        appends = appends_of(saga_ids, versions, turn, last)
        positions = {("group", "topic", partition): (turn * INPUTS, turn) for partition in range(8)}
        with speed.of("everything"):
            context = store.batch()
            batch = await context.__aenter__()
            with speed.of("claim"):
                await batch.claim(saga_ids, starts, messages)
            with speed.of("write"):
                await batch.write(BatchWrite(appends, positions=positions))
            with speed.of("commit"):
                await context.__aexit__(None, None, None)
        rows = await store.unsent(0, 1, INPUTS)
        with speed.of("mark sent"):
            await store.mark_sent([(row.saga_id, row.version) for row in rows])
        speed.wall["everything"][-1] += speed.wall["mark sent"][-1]
        speed.cpu["everything"][-1] += speed.cpu["mark sent"][-1]
    return speed


async def main(batches: int) -> None:
    """Makes a database on the disk, measures, reports, removes it."""
    with tempfile.TemporaryDirectory(prefix="store-speed-", dir=Path.cwd()) as directory:
        async with EmbeddedPostgres(Path(directory) / "data") as server:
            await migrate(server.migrate_url)
            async with PostgresStore(server.url) as store:
                speed = await run(store, batches)
    sys.stdout.write(speed.report() + "\n")


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
