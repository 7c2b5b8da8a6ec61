"""Reading the tree from tiles and records: the same hashes wherever they lie."""

from __future__ import annotations

import pytest

from orchestrator.evidence import nodes, tree
from orchestrator.evidence.nodes import SQL, Growing, MissingNodesError, Nodes, Tile
from orchestrator.evidence.reading import Evidence
from orchestrator.store.postgres import PostgresStore
from tests.databases import Database
from tests.evidence.logs import grown, leaves_of


async def store_tiles(store: PostgresStore, tiles: list[Tile]) -> None:
    """As sealing does it."""
    async with store.pools.connection("work") as connection:
        columns = [[t.level for t in tiles], [t.number for t in tiles], [t.root for t in tiles]]
        await connection.execute(SQL["add_tiles"], *columns, [t.hashes for t in tiles])


async def test_proofs_from_tiles_and_records_are_those_of_the_tree(database: Database) -> None:
    """600 records: two tiles, and the rest in records alone."""
    async with PostgresStore(database.url) as store:
        await grown(store, 600)
        leaves = await leaves_of(store)
        growing = Growing()
        await store_tiles(store, growing.add(b"".join(leaves)))
        evidence = Evidence(store.pools)
        for size in (1, 255, 256, 257, 511, 512, 600):
            root = tree.root_of(leaves[:size])
            assert await evidence.root(size) == root
            wanted = sorted({1, size, (size + 1) // 2, max(1, size - 1)})
            for position, path in (await evidence.inclusion(wanted, size)).items():
                assert tree.included(position - 1, size, leaves[position - 1], path, root)
            for old in (1, 100, 256, size):
                if old <= size:
                    proof = await evidence.consistency(old, size)
                    assert tree.consistent(old, size, tree.root_of(leaves[:old]), root, proof)
        async with store.pools.connection("read") as connection:
            again = await Nodes(connection).growing(600)
        assert (again.root(), again.edges) == (growing.root(), growing.edges)
        positions = await evidence.positions("main.transfer.K-0")
        assert list(positions) == list(range(1, len(positions) + 1))
        assert positions[1] == 1
        with pytest.raises(MissingNodesError, match="positions 600 to 601"):
            async with store.pools.connection("read") as connection:
                await Nodes(connection).leaves(599, 2)


async def test_a_tree_of_three_levels_of_tiles_is_read_with_few_rows(database: Database) -> None:
    """Made of hashes without records, so that it can be large: 70,144 leaves are 274 tiles, and one above."""
    leaves = [tree.leaf_hash(number.to_bytes(4, "big")) for number in range(274 * 256)]
    async with PostgresStore(database.url) as store:
        growing = Growing()
        tiles = growing.add(b"".join(leaves))
        assert [(t.level, t.number) for t in tiles if t.level] == [(1, 0)]
        assert len(tiles) == 275
        await store_tiles(store, tiles)
        evidence, size, root = Evidence(store.pools), len(leaves), tree.root_of(leaves)
        assert await evidence.root(size) == root == growing.root()
        for position in (1, 40_000, 65_536, 65_537, size):
            path = (await evidence.inclusion([position], size))[position]
            assert tree.included(position - 1, size, leaves[position - 1], path, root)
        for old in (256, 65_536, 69_888):
            proof = await evidence.consistency(old, size)
            assert tree.consistent(old, size, tree.root_of(leaves[:old]), root, proof)
        async with store.pools.connection("read") as connection:
            again = await Nodes(connection).growing(size)
        assert again == growing
        more = [tree.leaf_hash(b"more"), *leaves[:300]]
        assert again.add(b"".join(more)) == growing.add(b"".join(more))


async def test_a_tile_that_is_gone_is_missed_by_name(database: Database) -> None:
    """Where its hashes can be computed from records they are; where not, that is said."""
    async with PostgresStore(database.url) as store:
        growing = Growing()
        tiles = growing.add(b"".join(tree.leaf_hash(bytes([n % 256, n // 256])) for n in range(1024)))
        await store_tiles(store, [tile for tile in tiles if tile.number != 2])
        async with store.pools.connection("read") as connection:
            with pytest.raises(MissingNodesError, match="positions 513 to 768"):
                await nodes.inclusion(Nodes(connection), [600], 1024)
            with pytest.raises(MissingNodesError, match="tiles 0 to 3 of level 0"):
                await nodes.root(Nodes(connection), 1024)
