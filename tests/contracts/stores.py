"""What the store's contract suite runs on, and how its tests say what they write.

A second implementation joins by becoming a parameter of `store`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
import pytest_asyncio

from orchestrator.kernel.effects import Effects
from orchestrator.store import small
from orchestrator.store.contract import (
    Append,
    BatchWrite,
    Head,
    MessageFate,
    MessageId,
    NewRecord,
    OutboxRow,
    SagaStart,
    Store,
)
from orchestrator.store.postgres import PostgresStore
from tests.databases import Database
from tests.simulation.fake_store import FakeStore
from tests.simulation.tables import Tables

SECOND = 1_000_000


@pytest_asyncio.fixture
async def postgres_store(database: Database) -> AsyncIterator[Store]:
    """An empty store on PostgreSQL."""
    async with PostgresStore(database.url) as made:
        yield made


@pytest.fixture(params=["postgres", "postgres, many", "simulated"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty store. "many": every batch takes the way of large ones. "simulated": what tests/simulation stands on."""
    if request.param == "simulated":
        return FakeStore(Tables())
    if request.param == "postgres, many":
        monkeypatch.setattr(small, "SAGAS_MAX", -1)
        monkeypatch.setattr(small, "RECORDS_MAX", -1)
    made: Store = request.getfixturevalue("postgres_store")
    return made


def start(key: str = "K-1", *, name: str = "transfer", tenant: str = "main", run: str = "") -> SagaStart:
    """The start of a saga whose id tells its tenant, name and key, and which run of them it is."""
    return SagaStart(f"{tenant}.{name}.{key}{run}", tenant, name, key)


def append(saga: SagaStart, after: int, *types: str, **fields: Any) -> Append:
    """Records of these types after a version. Fields of Append as they are, those of Effects too."""
    effects = {
        name: fields.pop(name) for name in list(fields) if name in Effects.__dataclass_fields__ and name != "outbox"
    }
    records = fields.pop("records", None) or [record(type_) for type_ in types]
    return Append(
        saga_id=saga.saga_id,
        tenant=saga.tenant,
        name=saga.name,
        definition_version=1,
        business_key=saga.business_key,
        expected_version=after,
        records=records,
        effects=Effects(**effects),
        **fields,
    )


def record(type_: str, data: Any = None) -> NewRecord:
    """One record."""
    return NewRecord(type_, "hold_funds", data or {"round": 1}, "system", "cause-1")


def message(id_: str, body: bytes = b"body", *, source: str = "/tests", tenant: str = "main") -> MessageId:
    """A message's identity."""
    return MessageId(tenant, source, id_, body)


def outgoing(saga: SagaStart, version: int, value: bytes = b"{}", topic: str = "accounts.commands") -> OutboxRow:
    """A message to send."""
    return OutboxRow(
        saga.saga_id, version, topic, saga.saga_id, (("ce_id", f"{saga.saga_id}/{version}".encode()),), value
    )


async def claimed(
    store: Store, *sagas: SagaStart | str, messages: Sequence[MessageId] = ()
) -> tuple[dict[str, Head], list[MessageFate]]:
    """Claims in a batch of its own, which commits: starts where a SagaStart is given, existing sagas where an id is."""
    async with store.batch() as batch:
        return await batch.claim(
            [saga for saga in sagas if isinstance(saga, str)],
            [saga for saga in sagas if isinstance(saga, SagaStart)],
            messages,
        )


async def written(store: Store, *appends: Append, messages: Sequence[MessageId] = (), **write: Any) -> int:
    """Writes appends in one batch: at version 0 as starts. Gives the batch's `now`."""
    async with store.batch() as batch:
        starts = [SagaStart(a.saga_id, a.tenant, a.name, a.business_key) for a in appends if a.expected_version == 0]
        await batch.claim([a.saga_id for a in appends if a.expected_version], starts, messages)
        await batch.write(BatchWrite(appends=appends, **write))
        return batch.now


async def begun(store: Store, *sagas: SagaStart) -> None:
    """Starts sagas with one record each."""
    await written(store, *(append(saga, 0, "saga.started") for saga in sagas))


async def now_of(store: Store) -> int:
    """The database's clock, a moment ago: what a process would carry on."""
    async with store.batch() as batch:
        await batch.claim([], [], [])
        return batch.now


async def presumed(
    store: Store,
    *appends: Append,
    heads: Sequence[Head] = (),
    messages: Sequence[MessageId] = (),
    now: int = 0,
    **write: Any,
) -> tuple[dict[str, Head], list[MessageFate]]:
    """Writes appends in a presumed batch: at version 0 as starts. Gives the heads that it left, and the fates."""
    assumed = now or await now_of(store)
    async with store.batch() as batch:
        starts = [SagaStart(a.saga_id, a.tenant, a.name, a.business_key) for a in appends if a.expected_version == 0]
        _, fates = batch.presume(heads, starts, messages, assumed)
        await batch.write(BatchWrite(appends=appends, **write))
        assert batch.clock >= assumed
    return dict(batch.left), fates
