"""The Merkle tree over all records in their global order, as RFC 9162 defines it: roots, proofs, and checking them.

Rules of this file
- Pure. Where hashes lie is somebody else's business: whoever makes a proof says how a complete subtree is found.
- A leaf is SHA-256(0x00 || the record's canonical bytes), a node SHA-256(0x01 || left || right). The record at global
  position p is leaf p - 1. The root of the empty tree is SHA-256 of nothing.
- A *subtree* is (level, number): the complete tree over the 2^level leaves from number * 2^level on. Every range that a
  proof names is a row of complete subtrees of falling size, so a proof over n leaves reads O(log n) of them.
- Verifying believes nothing: not sizes, not lengths of paths, not lengths of hashes.
Source: RFC 9162, sections 2.1.1 to 2.1.5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

Subtree = tuple[int, int]
"""(level, number) of a complete subtree: the leaves number * 2^level to (number + 1) * 2^level - 1."""

Range = tuple[int, int]
"""First leaf, and the leaf after the last one."""


def leaf_hash(body: bytes) -> bytes:
    """The leaf of a record's canonical bytes."""
    return hashlib.sha256(b"\x00" + body).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The node above two hashes."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def complete_root(hashes: Sequence[bytes]) -> bytes:
    """The root over 2^k hashes of one level. Raises ValueError for any other number of them."""
    row = list(hashes)
    if not row or len(row) & (len(row) - 1):
        raise ValueError(f"{len(row)} hashes have no complete tree above them")
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


@dataclass(slots=True)
class Frontier:
    """A tree that only grows: its size, and the roots of the complete subtrees that it consists of, largest first."""

    size: int = 0
    peaks: list[bytes] = field(default_factory=list)

    def add(self, leaf: bytes) -> None:
        """One more leaf."""
        self.peaks.append(leaf)
        self.size += 1
        width = self.size
        while width & 1 == 0:
            right = self.peaks.pop()
            self.peaks[-1] = node_hash(self.peaks[-1], right)
            width >>= 1

    def root(self) -> bytes:
        """The root of the tree as it is."""
        return joined(self.peaks)

    def copy(self) -> Frontier:
        """Another one that grows by itself."""
        return Frontier(self.size, list(self.peaks))


def joined(peaks: Sequence[bytes]) -> bytes:
    """The root over the roots of complete subtrees of falling size."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for left in reversed(peaks[:-1]):
        root = node_hash(left, root)
    return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over these leaf hashes."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.add(leaf)
    return frontier.root()


def subtrees(first: int, after: int) -> Iterator[Subtree]:
    """The complete subtrees that make up a range of a tree, from left to right.

    `first` must be where RFC 9162 splits a tree (a multiple of the largest power of two not above the length).
    """
    while first < after:
        level = (after - first).bit_length() - 1
        if first % (1 << level):
            raise ValueError(f"leaves {first} to {after - 1} are no range that a tree is split into")
        yield level, first >> level
        first += 1 << level


def range_hash(wanted: Range, found: Mapping[Subtree, bytes]) -> bytes:
    """The hash of a range, from the hashes of its subtrees. Raises KeyError where one is missing."""
    return joined([found[subtree] for subtree in subtrees(*wanted)])


def split(size: int) -> int:
    """The largest power of two smaller than `size` (2 or more): how many leaves are on the left."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """The ranges whose hashes prove that leaf `index` is in the tree of `size`, nearest first. Raises ValueError."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    first, after, path = 0, size, []
    while after - first > 1:
        middle = first + split(after - first)
        if index < middle:
            path.append((middle, after))
            after = middle
        else:
            path.append((first, middle))
            first = middle
    return path[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """The ranges whose hashes prove that the tree of `old` leaves is the beginning of that of `new`.

    None for equal sizes, or an empty old tree: there is nothing to prove. Raises ValueError where old is larger.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {old} leaves cannot be the beginning of one of {new}")
    if old in (0, new):
        return []
    first, after, path = 0, new, []
    while after != old:
        middle = first + split(after - first)
        if old <= middle:
            path.append((middle, after))
            after = middle
        else:
            path.append((first, middle))
            first = middle
    if first:  # else the old tree is this very subtree, whose hash the verifier has
        path.append((first, after))
    return path[::-1]


def needed(ranges: Iterable[Range]) -> list[Subtree]:
    """The complete subtrees that these ranges are made of."""
    return [subtree for wanted in ranges for subtree in subtrees(*wanted)]


def proof(ranges: Iterable[Range], found: Mapping[Subtree, bytes]) -> list[bytes]:
    """The proof that `inclusion_ranges` or `consistency_ranges` described."""
    return [range_hash(wanted, found) for wanted in ranges]


def included(index: int, size: int, leaf: bytes, path: Sequence[bytes], root: bytes) -> bool:
    """Does this path prove that the leaf is number `index` of the tree with this size and root?"""
    if not 0 <= index < size or any(len(node) != HASH_BYTES for node in (leaf, root, *path)):
        return False
    number, last, found = index, size - 1, leaf
    for node in path:
        if last == 0:
            return False
        if number & 1 or number == last:
            found = node_hash(node, found)
            while number and not number & 1:
                number, last = number >> 1, last >> 1
        else:
            found = node_hash(found, node)
        number, last = number >> 1, last >> 1
    return last == 0 and found == root


def consistent(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Does this path prove that the tree (old, old_root) is the beginning of the tree (new, new_root)?"""
    if not 0 <= old <= new or any(len(node) != HASH_BYTES for node in (old_root, new_root, *path)):
        return False
    if old == new:
        return not path and old_root == new_root
    if old == 0:
        return not path and old_root == EMPTY_ROOT
    nodes = list(path)
    if old & (old - 1) == 0:
        nodes.insert(0, old_root)
    if not nodes:
        return False
    number, last = old - 1, new - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    found_old = found_new = nodes[0]
    for node in nodes[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            found_old, found_new = node_hash(node, found_old), node_hash(node, found_new)
            while number and not number & 1:
                number, last = number >> 1, last >> 1
        else:
            found_new = node_hash(found_new, node)
        number, last = number >> 1, last >> 1
    return last == 0 and found_old == old_root and found_new == new_root
