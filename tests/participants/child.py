"""A till in a process of its own, for a test that kills it: `python -m tests.participants.child <database> <log>`."""

from __future__ import annotations

import asyncio
import sys

import asyncpg

from orchestrator.participants import Worker
from tests.participants.running import QUICK, opened
from tests.participants.tills import make_till


async def main(url: str, log_url: str) -> None:
    """Runs until it is killed."""
    till = make_till()
    async with asyncpg.create_pool(url, min_size=1, max_size=4) as pool, opened(log_url, till) as broker:
        await Worker(till, broker, pool, QUICK).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
