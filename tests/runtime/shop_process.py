"""The shop as a process of its own, to be killed: `python -m tests.runtime.shop_process URL ROLES NAME`."""

from __future__ import annotations

import asyncio
import sys

from orchestrator.config import Settings
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from tests.runtime.shop import order
from tests.runtime.shop_participants import PARTICIPANTS

QUICK = {"topic_partitions": 2, "outbox_sweep_ms": 200, "intake_heartbeat_ms": 50}


async def main(url: str, roles: str, name: str) -> None:
    # A stable name: a restarted process takes its place in the groups back at once, without waiting for a lease.
    settings = Settings(database_url=url, roles=roles, instance_id=name, **QUICK)  # type: ignore[arg-type]
    async with Runtime(settings, catalog=Catalog.of([order], PARTICIPANTS)) as runtime:
        sys.stdout.write("up\n")
        sys.stdout.flush()
        await runtime.run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
