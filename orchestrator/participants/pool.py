"""The connections of the participants that run in one process.

Rules of this file
- A connection goes back as it is, without the round trip of a reset between each commit and its answers. So what a
  handler sets must end with its transaction (SET LOCAL, pg_advisory_xact_lock), as behind a pooler of transactions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from orchestrator.participants.work import Pool
from orchestrator.store.connections import keep_as_it_is

STATEMENTS_MAX = 400  # prepared, per connection: those of all participants of a process, and of their handlers


@asynccontextmanager
async def open_pool(url: str, connections_max: int, *, prepared_statements: bool = True) -> AsyncIterator[Pool]:
    """A pool for workers; `url` logs in as the application's role. Raises what the driver raises.

    prepared_statements: False behind a pooler of transactions that cannot keep them.
    """
    async with asyncpg.create_pool(
        url,
        min_size=1,
        max_size=connections_max,
        reset=keep_as_it_is,
        statement_cache_size=STATEMENTS_MAX if prepared_statements else 0,
    ) as pool:
        yield pool
