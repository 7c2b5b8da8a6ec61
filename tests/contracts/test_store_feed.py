"""The store's contract: the safe global order. No record may appear behind a reader's back."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

from orchestrator.store.contract import BatchWrite, Store, StoredRecord
from tests.contracts.stores import append, begun, start, written


async def read(store: Store, after: int = 0, limit: int = 10_000) -> list[StoredRecord]:
    """What the feed gives now."""
    return [record async for record in store.records(after, limit)]


class TestFeed:
    async def test_positions_are_dense_and_pages_meet(self, store: Store) -> None:
        """So that a position can also be a leaf's number in a Merkle tree."""
        sagas = [start(f"K-{n}") for n in range(7)]
        await written(store, *(append(saga, 0, "a", "b", "c") for saga in sagas))
        await written(store, *(append(saga, 3, "d") for saga in sagas))
        everything = await read(store)
        assert [record.position for record in everything] == list(range(1, 29))
        assert [r.position for r in await read(store, after=5, limit=10)] == list(range(6, 16))
        assert await read(store, after=27) == everything[27:]
        assert await read(store, after=28) == []
        assert await read(store, after=999) == []
        assert await read(store, after=2**40) == [], "positions outgrow 32 bits within years"
        assert await read(store) == everything

    async def test_a_writer_that_commits_late_comes_after_what_was_already_read(self, store: Store) -> None:
        """It took its number first, stays open while another commits and is read, and must not be missed."""
        slow, fast = start("slow"), start("fast")
        await begun(store, slow, fast)
        at = (await read(store))[-1].position
        async with store.batch() as batch:
            await batch.claim([slow.saga_id], [], [])
            await batch.write(BatchWrite([append(slow, 1, "slow.first", "slow.second")]))
            for version in range(1, 4):
                await written(store, append(fast, version, f"fast.{version}"))
                assert [record.type for record in await read(store, at)] == [f"fast.{version}"]
                at += 1
        assert [(record.type, record.position) for record in await read(store, at)] == [
            ("slow.first", at + 1),
            ("slow.second", at + 2),
        ]

    async def test_writers_that_commit_in_another_order_are_all_read_once(self, store: Store) -> None:
        """First in is last out."""
        sagas = [start(f"K-{n}") for n in range(3)]
        await begun(store, *sagas)
        seen = await read(store)
        batches = [store.batch() for _ in sagas]
        for saga, context in zip(sagas, batches, strict=True):
            batch = await context.__aenter__()
            await batch.claim([saga.saga_id], [], [])
            await batch.write(BatchWrite([append(saga, 1, "x")]))
        for context in reversed(batches):
            await context.__aexit__(None, None, None)
            seen += await read(store, seen[-1].position)
        assert [record.position for record in seen] == list(range(1, 7))
        assert [record.saga_id for record in seen[3:]] == [saga.saga_id for saga in reversed(sagas)]
        assert await read(store) == seen, "a new reader must see the same order as those who were there"

    async def test_readers_that_follow_many_writers_get_every_record_once_and_in_order(self, store: Store) -> None:
        """Three writers with random pauses before COMMIT, some rolled back, two readers that also seal."""
        sagas = [start(f"K-{n}") for n in range(5)]
        await begun(store, *sagas)
        done = asyncio.Event()
        chance = random.Random(7)

        async def writer() -> None:
            for _ in range(25):
                wanted = chance.sample(sagas, 2)
                try:
                    async with store.batch() as batch:
                        heads, _ = await batch.claim([saga.saga_id for saga in wanted], [], [])
                        appends = [append(saga, heads[saga.saga_id].version, "x") for saga in wanted]
                        await batch.write(BatchWrite(appends))
                        await asyncio.sleep(chance.random() * 0.01)
                        if chance.random() < 0.2:
                            raise TimeoutError
                except TimeoutError:
                    continue

        async def reader() -> list[StoredRecord]:
            seen: list[StoredRecord] = []
            while True:
                last_look = done.is_set()
                seen += await read(store, seen[-1].position if seen else 0, chance.randint(1, 20))
                if last_look:
                    return seen + await read(store, seen[-1].position)
                await asyncio.sleep(0.001)

        readers = [asyncio.create_task(reader()) for _ in range(2)]
        await asyncio.gather(*(writer() for _ in range(3)))
        done.set()
        first, second = [await task for task in readers]
        assert first == second
        assert [record.position for record in first] == list(range(1, len(first) + 1))
        versions: dict[str, list[int]] = defaultdict(list)
        for record in first:
            versions[record.saga_id].append(record.version)
        async with store.batch() as batch:
            heads, _ = await batch.claim([saga.saga_id for saga in sagas], [], [])
        assert versions == {saga_id: list(range(1, head.version + 1)) for saga_id, head in heads.items()}
