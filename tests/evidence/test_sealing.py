"""Sealing: what is signed is what is stored, by whichever process, and never on top of something else."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.evidence import tree
from orchestrator.evidence.errors import LogBehindError, LogContradictsError
from orchestrator.evidence.notes import open_checkpoint
from orchestrator.evidence.reading import SIGN_LOCK, Evidence
from orchestrator.evidence.sealing import Sealer
from orchestrator.store.postgres import PostgresStore
from tests.databases import Database
from tests.evidence.logs import as_superuser, grown, leaves_of, ring, signer

LAST = "seq = (SELECT max(seq) FROM records_stored WHERE saga_id LIKE '%K-%')"


def sealer(store: PostgresStore, records_max: int = 20_000) -> Sealer:
    return Sealer(store, ring(), records_max=records_max)


async def test_a_checkpoint_signs_the_tree_over_all_records(database: Database) -> None:
    """As the records themselves say; a second round without new records signs nothing."""
    async with PostgresStore(database.url) as store:
        sealing = sealer(store)
        assert await sealing.seal() is None, "there is nothing to sign"
        await grown(store, 300)
        made = await sealing.seal()
        assert made is not None
        leaves = await leaves_of(store)
        assert (made.number, made.size, made.root) == (1, 300, tree.root_of(leaves))
        opened = open_checkpoint(made.note, ring().verifiers).checkpoint
        assert (opened.number, opened.size, opened.root, opened.signed_at) == (1, 300, made.root, made.signed_at)
        assert await sealing.seal() is None
        await grown(store, 70, first="L")
        second = await sealing.seal()
        assert second is not None
        assert (second.number, second.size) == (2, 370)
        assert await Evidence(store.pools).latest() == second
        path = await Evidence(store.pools).consistency(300, 370)
        assert tree.consistent(300, 370, made.root, second.root, path)


async def test_processes_take_turns_and_go_on_from_each_other(database: Database) -> None:
    """Each finds what the other signed; large backlogs go in pieces; both at once sign once."""
    async with PostgresStore(database.url) as store, PostgresStore(database.url) as other:
        first, second = sealer(store, 256), sealer(other, 256)
        await grown(store, 700)
        sizes = []
        for number, one in enumerate([first, second, first, second], start=1):
            made = await one.seal()
            sizes.append(made.size if made else 0)
            assert made is None or made.number == number
        assert sizes == [256, 512, 700, 0]
        await grown(store, 10, first="L")
        made_twice = await asyncio.gather(first.seal(), second.seal())
        assert {made.size for made in made_twice if made} == {710}
        latest = await Evidence(store.pools).latest()
        assert latest is not None
        assert latest.root == tree.root_of(await leaves_of(store))


async def test_whoever_comes_second_does_nothing(database: Database) -> None:
    """While somebody seals, another one is not kept waiting."""
    async with PostgresStore(database.url) as store:
        await grown(store, 10)
        async with store.pools.connection("work") as connection:
            await connection.begin()
            await connection.fetch(f"SELECT pg_advisory_xact_lock({SIGN_LOCK}, 0)")
            assert await sealer(store).seal() is None
            await connection.roll_back()
        assert await sealer(store).seal() is not None


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        (f"UPDATE records_stored SET body = body || ' ' WHERE {LAST}", "signed the root"),
        (f"DELETE FROM records_stored WHERE {LAST}", "positions 257 to 300 only 43"),
        ("UPDATE log_checkpoints SET size = 299", "row was changed"),
        ("DELETE FROM log_checkpoints", "checkpoints were removed"),
        ("UPDATE log_checkpoints SET note = replace(note, '300', '301')", "was changed"),
    ],
)
async def test_nothing_is_signed_on_top_of_what_was_rewritten(database: Database, statement: str, reason: str) -> None:
    """A process that starts signs only what continues what was signed before, as far as it goes on from it: the rest
    of the tree is in tiles, and `audit verify` compares those with the records."""
    async with PostgresStore(database.url) as store:
        await grown(store, 300)
        assert await sealer(store).seal()
        await as_superuser(database, statement)
        await grown(store, 10, first="L")
        with pytest.raises(LogContradictsError, match=reason):
            await sealer(store).seal()


async def test_a_database_that_was_rewound_beneath_us_is_noticed(database: Database) -> None:
    """A standby that lagged takes over: the sealer knows what it signed."""
    async with PostgresStore(database.url) as store:
        sealing, watching = sealer(store), sealer(store)
        await grown(store, 20)
        await sealing.seal()
        await watching.seal()
        await grown(store, 20, first="L")
        await sealing.seal()
        await as_superuser(database, "DELETE FROM log_checkpoints WHERE number = 2")
        with pytest.raises(LogBehindError, match=r"checkpoint 2 over 40 records .* its last one is 1"):
            await sealing.seal()
        assert await watching.seal() is not None, "whoever has not seen it cannot know"


async def test_another_key_signs_on_where_the_old_one_is_known(database: Database) -> None:
    """Rotation: the new key first in the ring, the old one behind it."""
    async with PostgresStore(database.url) as store:
        await grown(store, 20)
        old, new = signer(1), signer(2)
        await Sealer(store, ring(old), records_max=1_000).seal()
        await grown(store, 20, first="L")
        with pytest.raises(LogContradictsError, match="none of these keys is trusted"):
            await Sealer(store, ring(new), records_max=1_000).seal()
        made = await Sealer(store, ring(new, old), records_max=1_000).seal()
        assert made is not None
        assert open_checkpoint(made.note, [new.verifier]).by == new.verifier
