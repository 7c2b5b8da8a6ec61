"""Accepted breaks: the next checkpoint declares each of them once, whatever the clock says."""

from __future__ import annotations

import asyncio

from orchestrator.evidence import tree
from orchestrator.evidence.notes import Checkpoint, SignedCheckpoint, open_checkpoint
from orchestrator.evidence.reading import SIGN_LOCK, Evidence
from orchestrator.evidence.sealing import Sealer
from orchestrator.evidence.verifying import Verification
from orchestrator.store.postgres import PostgresStore
from tests.databases import Database
from tests.evidence.logs import as_superuser, grown, leaves_of, ring, signer

SECOND = 1_000_000
IN_2040 = 2_208_988_800 * SECOND


def elsewhere(number: int, size: int, mark: int = 7) -> SignedCheckpoint:
    """A published checkpoint of a tree that this database does not have."""
    note = signer().sign(Checkpoint(signer().name, size, bytes([mark]) * 32, number, IN_2040 // 2).text)
    return open_checkpoint(note, ring().verifiers)


async def declared(store: PostgresStore) -> list[tuple[int, tuple[int, ...]]]:
    """Of each checkpoint its number, and over how many records the trees were that it does not continue."""
    return [
        (one.number, tuple(size for size, _ in open_checkpoint(one.note, ring().verifiers).checkpoint.broken))
        async for one in Evidence(store.pools).checkpoints()
    ]


async def test_a_break_is_declared_at_once_although_the_clock_was_ahead(database: Database) -> None:
    """The last checkpoint was signed in the future: its time says nothing about what came after it."""
    async with PostgresStore(database.url) as store:
        await grown(store, 20)
        root = tree.root_of(await leaves_of(store))
        note = signer().sign(Checkpoint(signer().name, 20, root, 1, IN_2040).text)
        await as_superuser(
            database,
            f"INSERT INTO log_checkpoints VALUES (1, 20, {IN_2040}, decode('{root.hex()}', 'hex'), $${note}$$)",
        )
        await Evidence(store.pools, "work").accept(elsewhere(4, 50), by="maria", reason="restored")
        sealing = Sealer(store, ring(), records_max=1_000)
        made = await sealing.seal()
        assert made is not None
        assert await declared(store) == [(1, ()), (5, (50,))]
        await grown(store, 5, first="L")
        assert await sealing.seal() is not None
        assert await declared(store) == [(1, ()), (5, (50,)), (6, ())], "it is declared once"
        published = [("published", [elsewhere(4, 50).note])]
        assert (await Verification(store, ring(), published=published).run()).findings == []


async def test_a_break_that_is_accepted_while_somebody_signs_waits_and_is_declared_by_the_next(
    database: Database,
) -> None:
    """Else the checkpoint that is being signed would count as the one that declares it, and does not."""
    async with PostgresStore(database.url) as store:
        await grown(store, 20)
        async with store.pools.connection("work") as signing:
            await signing.begin()
            await signing.fetch(f"SELECT pg_advisory_xact_lock({SIGN_LOCK}, 0)")
            accepting = asyncio.create_task(
                Evidence(store.pools, "work").accept(elsewhere(1, 50), by="maria", reason="restored")
            )
            await asyncio.sleep(0.1)
            assert not accepting.done()
            root = tree.root_of(await leaves_of(store))
            note = signer().sign(Checkpoint(signer().name, 20, root, 1, IN_2040).text)
            await signing.execute(
                f"INSERT INTO log_checkpoints VALUES (1, 20, {IN_2040}, decode('{root.hex()}', 'hex'), $${note}$$)"
            )
            await signing.commit_repeatable()
        await accepting
        assert await Sealer(store, ring(), records_max=1_000).seal() is not None
        assert await declared(store) == [(1, ()), (2, (50,))]


async def test_several_breaks_are_declared_together(database: Database) -> None:
    """Two places knew two trees; the numbers of both are left behind."""
    async with PostgresStore(database.url) as store:
        await grown(store, 20)
        evidence = Evidence(store.pools, "work")
        for number, size in ((3, 40), (9, 50)):
            await evidence.accept(elsewhere(number, size), by="maria", reason="restored")
        await evidence.accept(elsewhere(9, 50), by="jonas", reason="again")
        assert await Sealer(store, ring(), records_max=1_000).seal() is not None
        assert await declared(store) == [(10, (40, 50))]
        assert [one.accepted_by for one in await evidence.breaks()] == ["maria", "maria"]
