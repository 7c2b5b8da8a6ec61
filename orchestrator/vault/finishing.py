"""What is left of an erasure once its keys are gone: each saga that was theirs says so in a record of its own.

Rules of this file
- The keys went in one transaction (erasing.py). Whatever follows may be cut off at any line, and is taken up by
  whichever process comes first: nobody has to ask again.
- Who takes one up has it for LEASE_SECONDS, so that two do not do the same work. Where they do (it took longer), the
  saga itself takes each request once. One that has its record already is counted, not told again.
- A saga that cannot say so, because its code is not installed for example, is tried again, later each time: its values
  are gone all the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import structlog

from orchestrator.kernel.inputs import SubjectErased
from orchestrator.runtime.submit import BusyError
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.runtime.work import Cause, Outcome, SagaInput
from orchestrator.store.connections import Pools
from orchestrator.store.contract import StoreError
from orchestrator.vault.keys import SQL

log = structlog.get_logger("orchestrator.vault")

FRESH_SECONDS = 60.0  # a saga whose key was handed out is either there by then, or will never be
LEASE_SECONDS = 60.0
AGAIN_SECONDS_MAX = 3_600.0
POLL_MS = 2_000

Submit = Callable[[SagaInput], Awaitable[Outcome]]
Recorded = Callable[[str, str], Awaitable[Sequence[Any]]]
"""The records of a saga (tenant, id), with `type` and `data`."""


class Finishing:
    """Finishes erasures. `submit` decides one input of a saga."""

    def __init__(self, pools: Pools, submit: Submit, recorded: Recorded) -> None:
        self._pools = pools
        self._submit = submit
        self._recorded = recorded

    async def run(self, stopping: Stopping, pulse: Pulse) -> None:
        """Takes up what somebody left, until told to stop."""
        while not stopping:
            try:
                more = await self.one(pulse.beat)
                pulse.beat()
            except (BusyError, StoreError) as error:
                if not error.retriable:
                    raise
                pulse.trouble(f"store: {error}")
                more = False
            if not more:
                await stopping.sleep(POLL_MS)

    async def one(self, beat: Callable[[], None] = lambda: None) -> bool:
        """Finishes one erasure that waits for it; False where none does. `beat`: called after each saga, of which there
        may be thousands. Raises StoreError."""
        async with self._pools.connection("vault") as connection:
            rows = await connection.fetch(SQL["unfinished"], LEASE_SECONDS, AGAIN_SECONDS_MAX)
        for row in rows:
            await self._finish(row, beat)
            log.info("an erasure was finished that somebody had left", request=row["request"])
        return bool(rows)

    async def finish(self, tenant: str, request: str) -> None:
        """Finishes the erasure that the caller has just carried out. Raises StoreError."""
        async with self._pools.connection("vault") as connection:
            row = await connection.fetchrow(SQL["asked"], tenant, request)
        await self._finish(row)

    async def _finish(self, row: Any, beat: Callable[[], None] = lambda: None) -> None:
        tenant, request = row["tenant"], row["request"]
        async with self._pools.connection("vault") as connection:
            rows = await connection.fetch(SQL["sagas_of"], row["key_ids"], FRESH_SECONDS)
        given = SubjectErased(request, tuple(row["key_ids"]), row["reason"], row["asked_by"], row["confirmed_by"])
        told = untold = 0
        for saga_id in dict.fromkeys(each["saga_id"] for each in rows if each["version"]):
            if _noted(await self._recorded(tenant, saga_id), request) or await self._told(tenant, saga_id, given):
                told += 1
            else:
                untold += 1
            beat()
        async with self._pools.connection("vault") as connection:
            await connection.execute(SQL["finished"], tenant, request, told, untold)

    async def _told(self, tenant: str, saga_id: str, given: SubjectErased) -> bool:
        cause = Cause(tenant, actor=f"person:{given.confirmed_by}", causation_id=f"/erasures/{given.request}")
        outcome = await self._submit(SagaInput(saga_id, given, cause))
        told = outcome.fate in ("applied", "nothing")  # nothing: somebody else was quicker
        if not told:
            log.warning("a saga cannot say that its subject was erased", saga=saga_id, fate=outcome.fate)
        return told


def finishing_of(runtime: Any) -> Finishing:
    """What finishes erasures in a running process."""
    return Finishing(runtime.store.pools, runtime.submit, runtime.queries.records)


def _noted(records: Iterable[Any], request: str) -> bool:
    return any(record.type == "subject.erased" and record.data.get("request") == request for record in records)
