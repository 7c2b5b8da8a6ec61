"""The Merkle tree: roots and proofs, against a slow definition of RFC 9162 and known roots."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.evidence import tree
from orchestrator.evidence.tree import Frontier

# The inputs that implementations of RFC 6962 and 9162 are usually tried with, and the roots that all of them find: well
# known from certificate transparency, and independent of anything here.
INPUTS = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657",
                                           "606162636465666768696a6b6c6d6e6f")]  # fmt: skip
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


def slow_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, word by word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + slow_root(leaves[:k]) + slow_root(leaves[k:])).digest()


def slow_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of section 2.1.3.1."""
    if len(leaves) == 1:
        return []
    k = tree.split(len(leaves))
    if index < k:
        return [*slow_path(index, leaves[:k]), slow_root(leaves[k:])]
    return [*slow_path(index - k, leaves[k:]), slow_root(leaves[:k])]


def slow_proof(old: int, leaves: list[bytes], is_whole: bool = True) -> list[bytes]:
    """SUBPROOF of section 2.1.4.1."""
    if old == len(leaves):
        return [] if is_whole else [slow_root(leaves)]
    k = tree.split(len(leaves))
    if old <= k:
        return [*slow_proof(old, leaves[:k], is_whole), slow_root(leaves[k:])]
    return [*slow_proof(old - k, leaves[k:], False), slow_root(leaves[:k])]


def leaves_of(count: int) -> list[bytes]:
    return [tree.leaf_hash(number.to_bytes(4, "big")) for number in range(count)]


def nodes_of(leaves: list[bytes]) -> dict[tree.Subtree, bytes]:
    """All complete subtrees."""
    found = {(0, number): leaf for number, leaf in enumerate(leaves)}
    level, width = 0, len(leaves)
    while width > 1:
        level, width = level + 1, width // 2
        for number in range(width):
            left, right = found[level - 1, 2 * number], found[level - 1, 2 * number + 1]
            found[level, number] = tree.node_hash(left, right)
    return found


def test_the_usual_inputs_have_the_usual_roots() -> None:
    """Whoever wrote another implementation must find the same."""
    for size, root in enumerate(ROOTS, start=1):
        assert tree.root_of(map(tree.leaf_hash, INPUTS[:size])).hex() == root
    assert tree.root_of([]).hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 9, 31, 33])
def test_every_proof_of_a_small_tree_is_that_of_the_definition(size: int) -> None:
    """All positions, all older sizes; and each is accepted."""
    leaves = leaves_of(size)
    found, root = nodes_of(leaves), slow_root(leaves)
    assert tree.root_of(leaves) == root == tree.range_hash((0, size), found)
    for index in range(size):
        path = tree.proof(tree.inclusion_ranges(index, size), found)
        assert path == slow_path(index, leaves)
        assert tree.included(index, size, leaves[index], path, root)
    for old in range(1, size + 1):
        path = tree.proof(tree.consistency_ranges(old, size), found)
        assert path == slow_proof(old, leaves)
        assert tree.consistent(old, size, slow_root(leaves[:old]), root, path)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.data())
def test_no_other_leaf_position_size_root_or_path_is_accepted(size: int, data: st.DataObject) -> None:
    """A verifier that accepts what was not proved is worse than none."""
    leaves = leaves_of(size)
    found, root = nodes_of(leaves), tree.root_of(leaves)
    index = data.draw(st.integers(0, size - 1))
    path = tree.proof(tree.inclusion_ranges(index, size), found)
    assert tree.included(index, size, leaves[index], path, root)
    assert not tree.included(index, size, tree.leaf_hash(b"other"), path, root)
    assert not tree.included(index, size, leaves[index], path, tree.leaf_hash(b"other"))
    assert not tree.included(index, size, leaves[index], [*path, root], root)
    assert not tree.included(size, size, leaves[index], path, root)
    assert not tree.included(-1, size, leaves[index], path, root)
    other = data.draw(st.integers(0, size - 1))
    if other != index:
        assert not tree.included(other, size, leaves[index], path, root)
    for at in range(len(path)):
        assert not tree.included(index, size, leaves[index], path[:at] + path[at + 1 :], root)
        assert not tree.included(index, size, leaves[index], [*path[:at], path[at][:31], *path[at + 1 :]], root)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 700), st.data())
def test_only_a_tree_that_begins_with_the_old_one_is_consistent(size: int, data: st.DataObject) -> None:
    """Any leaf of the old tree changed, and there is no proof."""
    leaves = leaves_of(size)
    old = data.draw(st.integers(1, size))
    path = tree.proof(tree.consistency_ranges(old, size), nodes_of(leaves))
    old_root, root = tree.root_of(leaves[:old]), tree.root_of(leaves)
    assert tree.consistent(old, size, old_root, root, path)
    forged = leaves.copy()
    forged[data.draw(st.integers(0, old - 1))] = tree.leaf_hash(b"other")
    forged_path = tree.proof(tree.consistency_ranges(old, size), nodes_of(forged))
    assert not tree.consistent(old, size, old_root, tree.root_of(forged), forged_path)
    assert not tree.consistent(old, size, old_root, tree.root_of(forged), path)
    assert not tree.consistent(old, size, tree.root_of(forged[:old]), root, path)
    assert not tree.consistent(size + 1, size, old_root, root, path)
    assert not tree.consistent(old, size, old_root, root, [*path, root])
    for at in range(len(path)):
        assert not tree.consistent(old, size, old_root, root, path[:at] + path[at + 1 :])


@given(st.lists(st.integers(0, 40), max_size=8))
def test_a_growing_tree_has_the_root_of_its_leaves_at_every_size(steps: list[int]) -> None:
    """However the leaves come in, and whoever goes on with a copy."""
    leaves = leaves_of(sum(steps))
    frontier, size = Frontier(), 0
    for step in steps:
        before, frontier = frontier, frontier.copy()
        for leaf in leaves[size : size + step]:
            frontier.add(leaf)
        assert before.root() == slow_root(leaves[:size])
        size += step
        assert frontier.root() == slow_root(leaves[:size])
        assert frontier.size == size


def test_a_proof_over_ten_million_leaves_reads_few_subtrees() -> None:
    """Each path item is one subtree, but for the right edge, which is a row of them."""
    for index in (0, 5_000_000, 9_999_999):
        ranges = tree.inclusion_ranges(index, 10_000_000)
        assert len(ranges) <= 24
        assert len(tree.needed(ranges)) <= 48
    assert len(tree.needed(tree.consistency_ranges(9_999_000, 10_000_000))) <= 72


def test_what_cannot_be_proved_is_refused() -> None:
    """By name, before anything is read."""
    with pytest.raises(ValueError, match="no leaf 8"):
        tree.inclusion_ranges(8, 8)
    with pytest.raises(ValueError, match="cannot be the beginning"):
        tree.consistency_ranges(9, 8)
    with pytest.raises(ValueError, match="no range"):
        list(tree.subtrees(1, 4))
    with pytest.raises(ValueError, match="no complete tree"):
        tree.complete_root([b"x"] * 3)
