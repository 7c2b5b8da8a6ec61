"""The connections of the participants that run in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from orchestrator.participants.work import Pool


@asynccontextmanager
async def open_pool(url: str, connections_max: int) -> AsyncIterator[Pool]:
    """A pool for workers; `url` logs in as the application's role. Raises what the driver raises."""
    async with asyncpg.create_pool(url, min_size=1, max_size=connections_max) as pool:
        yield pool
