"""The log as a file: one line of JSON for each record, in global order, with the very bytes that were hashed.

Rules of this file: nothing is left out or written anew. `body` is the text of the canonical bytes; whoever encodes it
as UTF-8 has what `hash` and the leaf in the tree were computed from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson

from orchestrator.store.postgres import PostgresStore

LINES_PER_PART = 500


async def log_lines(store: PostgresStore, since: int = 1, limit: int = 1 << 62) -> AsyncIterator[bytes]:
    """Parts of the export, whole lines each. `since`: the first position. Raises StoreError."""
    part: list[bytes] = []
    async for record in store.records(since - 1, limit):
        part.append(
            orjson.dumps(
                {
                    "position": record.position,
                    "saga": record.saga_id,
                    "version": record.version,
                    "type": record.type,
                    "hash": record.hash.hex(),
                    "body": record.body.decode("utf-8", "replace"),
                }
            )
        )
        if len(part) == LINES_PER_PART:
            yield b"\n".join(part) + b"\n"
            part.clear()
    if part:
        yield b"\n".join(part) + b"\n"
