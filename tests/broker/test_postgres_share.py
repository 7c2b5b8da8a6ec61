"""How members of a group share partitions without a coordinator: each computes its own part, and the parts fit."""

import uuid
from collections.abc import Mapping

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.broker.postgres_database import Place
from orchestrator.broker.postgres_group import Change, share

IDS = [uuid.UUID(int=n * 7919 + 1) for n in range(8)]


def settle(
    members: Mapping[uuid.UUID, list[int]],
    partitions: Mapping[int, int],
    owners: dict[Place, uuid.UUID],
    order: list[int],
) -> dict[Place, uuid.UUID]:
    """Let the members beat in some order until nobody wants anything, as the tables would let them."""
    owners = dict(owners)
    for _ in range(20):
        quiet = True
        for position in order:
            me = sorted(members)[position % len(members)]
            change = share(me, members, partitions, owners)
            quiet = quiet and change == Change((), ())
            for place in change.release:
                assert owners.pop(place) == me
            for place in change.claim:
                assert owners.get(place) not in members, "only what nobody alive has may be claimed"
                owners[place] = me
        if quiet and set(range(len(members))) <= {n % len(members) for n in order}:
            return owners
        order = [*order, *range(len(members))]
    raise AssertionError("the members never come to rest")


def fair(
    members: Mapping[uuid.UUID, list[int]], partitions: Mapping[int, int], owners: Mapping[Place, uuid.UUID]
) -> bool:
    for topic, count in partitions.items():
        readers = [member for member, topics in members.items() if topic in topics]
        if not readers:
            continue
        shares = [sum(owners.get((topic, n)) == member for n in range(count)) for member in readers]
        if sum(shares) != count or max(shares) - min(shares) > 1:
            return False
    return True


topics = st.dictionaries(st.integers(1, 4), st.integers(1, 9), min_size=1, max_size=4)


@given(topics, st.integers(1, 6), st.integers(0, 6), st.lists(st.integers(0, 50), max_size=20), st.data())
def test_shares_end_up_fair_complete_and_disjoint(
    partitions: dict[int, int], before: int, after: int, order: list[int], data: st.DataObject
) -> None:
    """From any group to any other, in any order of beats. A member never changes its topics: it joins anew for that."""
    some = st.lists(st.sampled_from(sorted(partitions)), unique=True, min_size=1)
    old = {member: data.draw(some) for member in IDS[:before]}
    owners = settle(old, partitions, {}, order)
    assert fair(old, partitions, owners)
    chosen = data.draw(st.lists(st.sampled_from(IDS), min_size=1, max_size=max(1, after), unique=True))
    new = {member: old[member] if member in old else data.draw(some) for member in chosen}
    owners = settle(new, partitions, owners, order)
    assert fair(new, partitions, owners)


@given(topics, st.integers(1, 6), st.lists(st.integers(0, 50), max_size=10))
def test_a_join_moves_no_more_than_the_newcomers_share(
    partitions: dict[int, int], before: int, order: list[int]
) -> None:
    old = {member: sorted(partitions) for member in IDS[:before]}
    owners = settle(old, partitions, {}, order)
    grown = old | {IDS[before]: sorted(partitions)}
    after = settle(grown, partitions, owners, order)
    moved = [place for place in owners if after[place] != owners[place]]
    assert all(after[place] == IDS[before] for place in moved), "partitions move to the newcomer only"


def test_single_partitions_of_many_topics_do_not_all_fall_to_one_member() -> None:
    partitions = dict.fromkeys(range(1, 31), 1)
    members = {member: sorted(partitions) for member in IDS[:3]}
    owners = settle(members, partitions, {}, [0, 1, 2])
    counts = [sum(owner == member for owner in owners.values()) for member in members]
    assert min(counts) >= 5


def test_what_a_dead_member_had_is_free() -> None:
    me, dead = IDS[:2]
    change = share(me, {me: [1]}, {1: 3}, {(1, 0): me, (1, 1): dead, (1, 2): dead})
    assert change == Change((), ((1, 1), (1, 2)))


def test_what_a_living_member_has_too_much_is_waited_for() -> None:
    me, rich = IDS[:2]
    members = {me: [1], rich: [1]}
    owners = {(1, number): rich for number in range(4)}
    assert share(me, members, {1: 4}, owners) == Change((), ())
    assert share(rich, members, {1: 4}, owners) == Change(((1, 2), (1, 3)), ())
