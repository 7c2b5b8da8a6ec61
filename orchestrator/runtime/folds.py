"""States from streams, for what is not in memory.

Rules of this file: a stream that does not fold, or is not what its head says, is broken, and its saga is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from orchestrator.kernel.api import fold
from orchestrator.kernel.records import FoldError, Record
from orchestrator.runtime.identity import trace_of
from orchestrator.runtime.states import Entry
from orchestrator.store.contract import Head, StoredRecord
from orchestrator.tracing.sampling import Sampler

FOLD_RECORDS_SLICE = 4_000  # then others get their turn: some 8 ms


async def fold_streams(
    heads: Sequence[Head],
    streams: Mapping[str, list[StoredRecord]],
    entries: dict[str, Entry],
    broken: dict[str, str],
    sampler: Sampler,
) -> None:
    """States of streams. One that does not fold, or is not what its head says, is broken: its saga is left alone."""
    folded = 0
    for head in heads:
        records = streams.get(head.saga_id) or []
        try:
            state = fold(Record(record.type, record.activity, record.data) for record in records)
        except FoldError as error:
            broken[head.saga_id] = f"the stream cannot be folded: {error}"
            continue
        last = records[-1].hash if records else b""
        if state.version != head.version or last != head.hash:
            broken[head.saga_id] = (
                f"the head says version {head.version}, the stream has {len(records)} records: one of them was changed"
            )
            continue
        trace = trace_of(records[0].traceparent, head.saga_id, sampler)
        entries[head.saga_id] = Entry(state, head, trace, foreign=True)
        folded += len(records)
        if folded > FOLD_RECORDS_SLICE:
            folded = 0
            await asyncio.sleep(0)
