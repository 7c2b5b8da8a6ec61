"""Where the hashes of the tree lie: full tiles of 256 in a table, what is younger in the records themselves.

Rules of this file
- A proof reads a few rows however large the log is: one slice of one tile for each level that is a multiple of 8, and
  where the tree ends inside a tile, the roots of at most 255 tiles below it, or at most 255 records' hashes.
- Nothing here decides whether hashes are right: whoever needs to know compares with a signed root.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from orchestrator.evidence import tree
from orchestrator.evidence.tree import HASH_BYTES, Subtree
from orchestrator.store.connections import Guarded
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.evidence", "evidence.sql")

TILE_LEVELS = 8
TILE_HASHES = 1 << TILE_LEVELS


class MissingNodesError(ValueError):
    """Hashes that a tree of this size must have are not there: records or tiles are gone."""


@dataclass(frozen=True, slots=True)
class Tile:
    """256 hashes of one level, and the root over them."""

    level: int
    number: int
    hashes: bytes
    root: bytes


@dataclass(slots=True)
class Growing:
    """The right edge of the tree: how large it is, and the hashes of each tile level that fill no tile yet."""

    size: int = 0
    edges: list[list[bytes]] = field(default_factory=list)

    def add(self, leaves: bytes) -> list[Tile]:
        """More leaves, packed; gives the tiles that they fill, in the order in which they were filled."""
        made: list[Tile] = []
        for at in range(0, len(leaves), HASH_BYTES):
            self.size += 1
            self._add(0, leaves[at : at + HASH_BYTES], made)
        return made

    def root(self) -> bytes:
        """The root of the tree as it is."""
        peaks: list[bytes] = []
        for edge in reversed(self.edges):
            at = 0
            while at < len(edge):
                width = 1 << ((len(edge) - at).bit_length() - 1)
                peaks.append(tree.complete_root(edge[at : at + width]))
                at += width
        return tree.joined(peaks)

    def copy(self) -> Growing:
        """Another one that grows by itself."""
        return Growing(self.size, [list(edge) for edge in self.edges])

    def _add(self, level: int, node: bytes, made: list[Tile]) -> None:
        if level == len(self.edges):
            self.edges.append([])
        edge = self.edges[level]
        edge.append(node)
        if len(edge) == TILE_HASHES:
            number = (self.size >> (TILE_LEVELS * (level + 1))) - 1
            root = tree.complete_root(edge)
            made.append(Tile(level, number, b"".join(edge), root))
            edge.clear()
            self._add(level + 1, root, made)


class Reading(Protocol):
    """What gives the hashes of complete subtrees."""

    async def hashes(self, wanted: Sequence[Subtree]) -> dict[Subtree, bytes]:
        """The hash of each. Raises MissingNodesError."""


class Nodes:
    """Reads nodes on one connection."""

    def __init__(self, connection: Guarded) -> None:
        self._connection = connection

    async def hashes(self, wanted: Sequence[Subtree]) -> dict[Subtree, bytes]:
        """The hash of each complete subtree. Raises MissingNodesError."""
        found: dict[Subtree, bytes] = {}
        asked = list(dict.fromkeys(wanted))
        if not asked:
            return found
        rows = await self._connection.fetch(SQL["tile_slices"], *_slices(asked))
        for row in rows:
            found[asked[row["place"] - 1]] = _over(asked[row["place"] - 1], row["hashes"])
        for level in {level // TILE_LEVELS for level, _ in asked}:
            edge = [one for one in asked if one[0] // TILE_LEVELS == level and one not in found]
            if edge:
                found |= await self._edge(level, edge)
        return found

    async def _edge(self, tile_level: int, wanted: Sequence[Subtree]) -> dict[Subtree, bytes]:
        """Subtrees in tiles that are not full: from the records, or from the roots of the tiles below."""
        spans = {one: _span(one) for one in wanted}
        first = min(start for start, _ in spans.values())
        after = max(start + count for start, count in spans.values())
        below = await self._row(tile_level, first, after)
        return {
            one: _over(one, below[(start - first) * HASH_BYTES : (start - first + count) * HASH_BYTES])
            for one, (start, count) in spans.items()
        }

    async def _row(self, tile_level: int, first: int, after: int) -> bytes:
        """Hashes first to after - 1 of a level that is a multiple of 8, without its own tiles."""
        if tile_level == 0:
            return await self.leaves(first, after - first)
        rows = await self._connection.fetch(SQL["tile_roots"], tile_level - 1, first, after)
        if [row["number"] for row in rows] != list(range(first, after)):
            raise MissingNodesError(
                f"of the tiles {first} to {after - 1} of level {tile_level - 1} only {len(rows)} are there"
            )
        return b"".join(row["root"] for row in rows)

    async def leaves(self, first: int, count: int) -> bytes:
        """The leaf hashes of the records at positions first + 1 to first + count, packed. Raises MissingNodesError."""
        row = await self._connection.fetchrow(SQL["leaves"], first, count)
        if row["found"] != count:
            raise MissingNodesError(
                f"of the records at positions {first + 1} to {first + count} only {row['found']} are there"
            )
        leaves: bytes = row["leaves"]
        return leaves

    async def growing(self, size: int) -> Growing:
        """The right edge of the tree of this size, to go on from. Raises MissingNodesError."""
        edges = []
        for level in range(TILE_LEVELS):
            first = size >> (TILE_LEVELS * (level + 1)) << TILE_LEVELS
            after = size >> (TILE_LEVELS * level)
            if not after:
                break
            row = await self._row(level, first, after) if after > first else b""
            edges.append([row[at : at + HASH_BYTES] for at in range(0, len(row), HASH_BYTES)])
        return Growing(size, edges)


async def root(nodes: Reading, size: int) -> bytes:
    """The root of the tree of this size. Raises MissingNodesError."""
    return tree.range_hash((0, size), await nodes.hashes(list(tree.subtrees(0, size))))


async def consistency(nodes: Reading, old: int, new: int) -> list[bytes]:
    """The proof that the tree of `old` leaves is the beginning of that of `new`. Raises MissingNodesError."""
    ranges = tree.consistency_ranges(old, new)
    return tree.proof(ranges, await nodes.hashes(tree.needed(ranges)))


async def inclusion(nodes: Reading, positions: Iterable[int], size: int) -> dict[int, list[bytes]]:
    """For each global position (1 to size) the proof that its record is in the tree. Raises MissingNodesError."""
    ranges = {position: tree.inclusion_ranges(position - 1, size) for position in positions}
    found = await nodes.hashes([one for wanted in ranges.values() for one in tree.needed(wanted)])
    return {position: tree.proof(wanted, found) for position, wanted in ranges.items()}


def _span(subtree: Subtree) -> tuple[int, int]:
    """Of a subtree the first hash at the level of its tile, and how many of them it covers."""
    level, number = subtree
    inside = level % TILE_LEVELS
    return number << inside, 1 << inside


def _slices(wanted: Sequence[Subtree]) -> tuple[list[int], list[int], list[int], list[int]]:
    """Tile levels, tile numbers, first hash in the tile, how many."""
    spans = [_span(one) for one in wanted]
    return (
        [level // TILE_LEVELS for level, _ in wanted],
        [first // TILE_HASHES for first, _ in spans],
        [first % TILE_HASHES for first, _ in spans],
        [count for _, count in spans],
    )


def _over(subtree: Subtree, packed: bytes) -> bytes:
    count = _span(subtree)[1]
    if len(packed) != count * HASH_BYTES:
        raise MissingNodesError(f"subtree {subtree} has {len(packed)} bytes of hashes, expected {count * HASH_BYTES}")
    return tree.complete_root([packed[at : at + HASH_BYTES] for at in range(0, len(packed), HASH_BYTES)])
