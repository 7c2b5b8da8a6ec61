"""The store's contract: which versions take new sagas, read and switched under one lock."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.store.contract import BatchWrite, Store, StoreError, Switch
from tests.contracts.stores import append, start

FIRST, SECOND = start("A-1", name="asking"), start("A-2", name="asking")


async def switched(store: Store, version: int, replaces: int, saga_id: str, hash_: str = "") -> None:
    """One batch that switches, with the record that does it."""
    saga = start(saga_id, name="asking")
    async with store.batch() as batch:
        await batch.active(alone=True)
        await batch.claim([], [saga], [])
        switch = Switch("transfer", version, replaces, hash_ or f"hash-{version}", saga.saga_id)
        await batch.write(BatchWrite(appends=[append(saga, 0, "asked")], switches=[switch]))


async def active(store: Store) -> dict[str, int]:
    """What takes new sagas now."""
    async with store.batch() as batch:
        return await batch.active()


async def stored(store: Store) -> None:
    """Two versions."""
    for version in (1, 2):
        await store.register_definition("transfer", version, f"hash-{version}", {})


async def test_a_version_is_active_from_the_batch_that_switches_to_it(store: Store) -> None:
    """And going back is a switch as well."""
    await stored(store)
    assert await active(store) == {}
    await switched(store, 1, 0, "S-1")
    assert await active(store) == {"transfer": 1}
    await switched(store, 2, 1, "S-2")
    await switched(store, 1, 2, "S-3")
    assert await active(store) == {"transfer": 1}


async def test_a_switch_from_what_is_not_active_or_to_another_shape_writes_nothing(store: Store) -> None:
    """Neither the switch nor the records of who agreed."""
    await stored(store)
    await switched(store, 1, 0, "S-1")
    with pytest.raises(StoreError, match="transfer v2 cannot replace v0"):
        await switched(store, 2, 0, "S-2")
    with pytest.raises(StoreError, match="transfer v2 cannot replace v1"):
        await switched(store, 2, 1, "S-3", hash_="another shape")
    assert await active(store) == {"transfer": 1}
    async with store.batch() as batch:
        heads, _ = await batch.claim(["main.asking.S-2", "main.asking.S-3"], [], [])
    assert heads == {}


async def test_whoever_has_not_asked_alone_switches_nothing(store: Store) -> None:
    """Others may be beginning sagas at this very moment."""
    await stored(store)
    switch = Switch("transfer", 1, 0, "hash-1", FIRST.saga_id)
    for ask in (True, False):
        async with store.batch() as batch:
            if ask:
                await batch.active()
            await batch.claim([], [FIRST], [])
            with pytest.raises(StoreError, match="alone"):
                await batch.write(BatchWrite(appends=[append(FIRST, 0, "asked")], switches=[switch]))
    async with store.batch() as batch:
        await batch.claim([], [], [])
        with pytest.raises(StoreError, match="before lock_keys and claim"):
            await batch.active()
    assert await active(store) == {}


async def test_a_switch_waits_for_batches_that_have_asked(store: Store) -> None:
    """So what they write comes before it, and what begins later sees it."""
    await stored(store)
    told: list[str] = []

    async def switch() -> None:
        await switched(store, 1, 0, "S-1")
        told.append("switched")

    async with store.batch() as batch:
        assert await batch.active() == {}
        switching = asyncio.create_task(switch())
        await asyncio.sleep(0.1)  # a wrong lock would let it through by now
        await batch.claim([], [SECOND], [])
        await batch.write(BatchWrite(appends=[append(SECOND, 0, "began")]))
        assert told == []
        told.append("began")
    await switching
    assert told == ["began", "switched"]
    assert await active(store) == {"transfer": 1}
