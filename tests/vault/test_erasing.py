"""Which keys an erasure destroys, and that it is this person's and nobody else's (ADR 61)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio

from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.work import Outcome, SagaInput
from orchestrator.store.connections import ConnectionLimits, Pools
from orchestrator.vault import keyfile
from orchestrator.vault.erasing import ErasureRefusedError, Erasing
from orchestrator.vault.keys import Erased, Keys
from orchestrator.vault.vault import Vault
from tests.databases import Database


@dataclass
class Act:
    """Erasing over a real database, without a running product."""

    erasing: Erasing
    keys: Keys
    pools: Pools
    submitted: list[str] = field(default_factory=list)

    async def saga(self, saga_id: str, business_key: str, *, parent: str = "", ended: bool = True) -> None:
        """A saga that is there."""
        async with self.pools.connection("vault") as connection:
            await connection.execute(
                "INSERT INTO saga_heads (saga_id, tenant, name, business_key, version, started_at, parent, ended)"
                " VALUES ($1, 'main', 'care', $2, 3, 1, $3, $4)",
                saga_id, business_key, parent, ended,
            )  # fmt: skip

    async def sealed(self, subject: str, *sagas: str) -> str:
        """The key of a subject, which has sealed something of these sagas a while ago."""
        found = await self.keys.of_subjects({("main", subject): sagas})
        async with self.pools.connection("vault") as connection:
            await connection.execute("UPDATE vault_sagas SET seen_at = seen_at - interval '1 day'")
        return found["main", subject].key_id

    async def gone(self, *key_ids: str) -> list[bool]:
        """Which of these keys are no more."""
        self.keys.forget(key_ids)
        found = await self.keys.by_id(key_ids)
        return [isinstance(found[key_id], Erased) for key_id in key_ids]


@pytest_asyncio.fixture
async def act(database: Database, tmp_path: Path) -> AsyncIterator[Act]:
    """Two people are needed."""
    pools = Pools(database.url, ConnectionLimits(), "test")
    keys = Keys(pools, keyfile.create(tmp_path / "vault.keys"))
    submitted: list[str] = []

    async def submit(item: SagaInput) -> Outcome:
        submitted.append(item.saga_id)
        return Outcome("applied", item.saga_id)

    async def recorded(_tenant: str, _saga_id: str) -> list[object]:
        return []

    vault = Vault(keys, Catalog.of([], []), lambda _name, _data: "")
    yield Act(Erasing(vault, pools, submit, recorded, two_people=True), keys, pools, submitted)
    await pools.close()


async def test_a_request_that_stands_for_somebody_erases_nobody_else(act: Act) -> None:
    """A number typed twice must neither destroy the first person's keys, nor say that the second is erased."""
    anna, bo = await act.sealed("CUST-ANNA", "s-1"), await act.sealed("CUST-BO", "s-2")
    await act.saga("s-1", "a-1")
    await act.saga("s-2", "b-1")
    await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    with pytest.raises(ErasureRefusedError, match="somebody else") as refused:
        await act.erasing.ask("main", "CUST-BO", "ER-7", "a letter", "omar")
    assert refused.value.refusal.code == "invalid"
    assert await act.gone(anna, bo) == [False, False]
    done = await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "omar")
    assert done.erased_at is not None
    assert await act.gone(anna, bo) == [True, False]
    with pytest.raises(ErasureRefusedError, match="somebody else"):
        await act.erasing.ask("main", "CUST-BO", "ER-7", "a letter", "omar")
    again = await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "omar")
    assert again.erased_at == done.erased_at, "whoever comes again finishes what is missing"


async def test_what_came_between_asking_and_confirming_goes_too(act: Act) -> None:
    """The second person may come days later: by then there are more sagas, and more keys that are theirs."""
    anna = await act.sealed("CUST-ANNA", "s-1")
    await act.saga("s-1", "a-1")
    await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    await act.saga("s-2", "a-2")
    assert await act.sealed("CUST-ANNA", "s-2") == anna
    event = await act.sealed("key:a-2")
    done = await act.erasing.confirm("main", "ER-7", "omar")
    assert (done.keys, done.sagas) == (2, 2)
    assert await act.gone(anna, event) == [True, True]
    assert act.submitted == ["s-1", "s-2"]


async def test_a_child_that_was_told_no_name_goes_with_its_parent(act: Act) -> None:
    """Its start held nothing of the customer, so it has a key of its own; what it learned later is theirs all the same."""
    anna = await act.sealed("CUST-ANNA", "s-1")
    await act.saga("s-1", "a-1")
    await act.saga("s-2", "a-1/child", parent="s-1", ended=False)
    await act.saga("s-3", "a-1/child/child", parent="s-2")
    child, grandchild = await act.sealed("saga:s-2", "s-2"), await act.sealed("saga:s-3", "s-3")
    other = await act.sealed("saga:s-4", "s-4")
    with pytest.raises(ErasureRefusedError, match="care a-1/child"):
        await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    async with act.pools.connection("vault") as connection:
        await connection.execute("UPDATE saga_heads SET ended = true")
    await act.erasing.ask("main", "CUST-ANNA", "ER-7", "a letter", "olga")
    done = await act.erasing.confirm("main", "ER-7", "omar")
    assert done.sagas == 3
    assert await act.gone(anna, child, grandchild, other) == [True, True, True, False]
