"""The payout of the API's tests without HTTP, to be killed: `python -m tests.tracing.payout_process URL`."""

from __future__ import annotations

import asyncio
import sys

from orchestrator.config import load_settings
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from tests.api.payout import desk, payout

ROLES = "coordinator,relay,timers,participants,traces"


async def main(url: str) -> None:
    settings = load_settings(
        database_url=url, sagas="tests.api", roles=ROLES, topic_partitions=2, instance_id="worker",
        outbox_sweep_ms=200, intake_heartbeat_ms=50, trace_poll_ms=100,
    )  # fmt: skip
    async with Runtime(settings, catalog=Catalog.of([payout], [desk])) as runtime:
        sys.stdout.write("up\n")
        sys.stdout.flush()
        await runtime.run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
