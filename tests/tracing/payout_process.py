"""The payout of the API's tests without HTTP, to be killed: `python -m tests.tracing.payout_process URL`."""

from __future__ import annotations

import asyncio
import os
import sys

from orchestrator.config import load_settings
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from orchestrator.tracing import local
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
    if os.environ.get("KEEPS_MEASURED_SPANS"):  # to be killed before it has sent any
        local.FLUSH_MS = 3_600_000
    asyncio.run(main(sys.argv[1]))
