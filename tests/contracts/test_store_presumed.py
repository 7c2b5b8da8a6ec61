"""The store's contract: batches that were decided from memory, without asking (`Batch.presume`)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.kernel.effects import Timer
from orchestrator.store.chain import verify
from orchestrator.store.contract import (
    BatchWrite,
    DeadLetter,
    Head,
    InvalidAppendError,
    PresumedWrongError,
    SagaStart,
    Store,
    StoreError,
)
from tests.contracts.stores import append, begun, claimed, message, now_of, outgoing, presumed, record, start, written

SAGA = start()


async def head_of(store: Store, saga: SagaStart = SAGA) -> Head:
    """The head as it stands."""
    return (await claimed(store, saga.saga_id))[0][saga.saga_id]


async def nothing_of_it(store: Store, head: Head, message_id: str = "m-9") -> None:
    """The stream stands where it stood, and the message was not taken in."""
    assert await head_of(store) == head
    assert (await claimed(store, messages=[message(message_id)]))[1] == ["new"]
    assert await store.positions("g", [("t", 0)]) == {("t", 0): None}


async def test_what_was_presumed_and_is_so_is_written_as_after_a_claim(store: Store) -> None:
    """Streams, chain, inbox, positions, messages and timers."""
    left, fates = await presumed(store, append(SAGA, 0, "saga.started"), messages=[message("m-1"), message("m-1")])
    assert fates == ["new", "seen"]
    assert left[SAGA.saga_id] == await head_of(store)
    timer = Timer("hold_funds", 5, armed=2, command_version=3)
    more = append(SAGA, 1, "x", "y", timers_set=[timer], outbox=[outgoing(SAGA, 3)])
    left, _ = await presumed(
        store, more, heads=list(left.values()), messages=[message("m-2")], positions={("g", "t", 0): (5, 6)}
    )
    assert left[SAGA.saga_id] == await head_of(store)
    await written(store, append(SAGA, 3, "z"))
    async with store.batch() as batch:
        stream = (await batch.streams([SAGA.saga_id]))[SAGA.saga_id]
    assert [line.type for line in stream] == ["saga.started", "x", "y", "z"]
    assert verify(stream) is None
    assert (await claimed(store, messages=[message("m-1"), message("m-2", b"other")]))[1] == ["seen", "other_body"]
    assert await store.positions("g", [("t", 0)]) == {("t", 0): 5}
    assert await store.due_timers(None, 10) == [], "its command is not on the broker yet"
    assert [row.version for row in await store.unsent(0, 1, 10)] == [3]
    await store.mark_sent([(SAGA.saga_id, 3)])
    assert await store.unsent(0, 1, 10) == []


async def test_a_head_that_moved_is_noticed_and_nothing_is_written(store: Store) -> None:
    """Another process was faster."""
    left, _ = await presumed(store, append(SAGA, 0, "saga.started"))
    await written(store, append(SAGA, 1, "elsewhere"))
    stands = await head_of(store)
    with pytest.raises(PresumedWrongError):
        await presumed(
            store, append(SAGA, 1, "x"), heads=list(left.values()), messages=[message("m-9")],
            positions={("g", "t", 0): (5, 5)},
        )  # fmt: skip
    await nothing_of_it(store, stands)


async def test_a_head_of_the_same_version_and_another_hash_is_noticed(store: Store) -> None:
    """The database was restored to an earlier day, and went on."""
    await begun(store, SAGA)
    stands = await head_of(store)
    with pytest.raises(PresumedWrongError):
        await presumed(store, append(SAGA, 1, "x"), heads=[replace(stands, hash=b"\1" * 32)], messages=[message("m-9")])
    await nothing_of_it(store, stands)


async def test_a_saga_that_is_not_there_is_noticed_also_where_nothing_is_written_to_it(store: Store) -> None:
    """What was decided about others may rest on it."""
    await begun(store, SAGA)
    stands = await head_of(store)
    with pytest.raises(PresumedWrongError):
        await presumed(store, append(SAGA, 1, "x"), heads=[stands, replace(stands, saga_id="gone")])
    await nothing_of_it(store, stands)


async def test_a_message_that_was_here_before_is_noticed(store: Store) -> None:
    """Also with other bytes; the batch is decided again with its true fate."""
    await written(store, append(SAGA, 0, "saga.started"), messages=[message("m-1")])
    stands = await head_of(store)
    for new, again in (("m-8", message("m-1")), ("m-9", message("m-1", b"other"))):
        with pytest.raises(PresumedWrongError):
            await presumed(store, append(SAGA, 1, "x"), heads=[stands], messages=[message(new), again])
        await nothing_of_it(store, stands, new)


async def test_a_start_that_is_not_new_is_noticed(store: Store) -> None:
    """Neither the saga itself, nor another live run of its key."""
    await begun(store, SAGA)
    stands = await head_of(store)
    for known in (SAGA, start(run=".2")):
        with pytest.raises(PresumedWrongError):
            await presumed(store, append(known, 0, "saga.started"), messages=[message("m-9")])
    await nothing_of_it(store, stands)
    assert (await claimed(store, start(run=".2").saga_id))[0] == {}


async def test_a_start_is_not_left_behind_by_a_batch_whose_other_head_moved(store: Store) -> None:
    """It is made before that is known."""
    await begun(store, SAGA)
    stands, other = await head_of(store), start("K-2")
    with pytest.raises(PresumedWrongError):
        await presumed(store, append(other, 0, "saga.started"), heads=[replace(stands, version=7)])
    await begun(store, other)
    assert (await head_of(store, other)).version == 1


async def test_a_start_that_is_not_written_is_refused(store: Store) -> None:
    """What the decision against it rests on would not be verified."""
    async with store.batch() as batch:
        batch.presume([], [SAGA], [], 1)
        with pytest.raises(PresumedWrongError):
            await batch.write(BatchWrite())


@pytest.mark.parametrize("off", [1_000_000, -3_000_000], ids=["ahead", "behind"])
async def test_a_clock_that_is_off_is_noticed(store: Store, off: int) -> None:
    """Deadlines are judged by the database's clock."""
    await begun(store, SAGA)
    stands = await head_of(store)
    now = await now_of(store) + off
    with pytest.raises(PresumedWrongError):
        await presumed(store, append(SAGA, 1, "x"), heads=[stands], messages=[message("m-9")], now=now)
    await nothing_of_it(store, stands)


async def test_what_became_due_since_is_noticed(store: Store) -> None:
    """A vote at the due time comes too late, by the database's clock and not by one that is a moment behind."""
    now = await written(store, append(SAGA, 0, "saga.started"))
    soon = Timer("approve", now + 60_000, armed=1)
    await written(store, append(SAGA, 1, "task.opened", timers_set=[soon]))
    stands = await head_of(store)
    await asyncio.sleep(0.1)
    with pytest.raises(PresumedWrongError):
        await presumed(store, append(SAGA, 2, "x"), heads=[stands], messages=[message("m-9")], now=soon.due - 1)
    await nothing_of_it(store, stands)
    left, _ = await presumed(store, append(SAGA, 2, "x"), heads=[stands], now=soon.due)
    assert left[SAGA.saga_id].version == 3


async def test_what_has_no_place_in_one_call_is_written_with_it_or_not_at_all(store: Store) -> None:
    """Dead letters, for one: further statements of the same transaction."""
    await begun(store, SAGA)
    stands = await head_of(store)
    letter = DeadLetter("main", "t", 0, 1, None, b"?", [], "unreadable", "bad")
    with pytest.raises(PresumedWrongError):
        await presumed(store, append(SAGA, 1, "x"), heads=[replace(stands, hash=b"")], dead_letters=[letter])
    left, _ = await presumed(store, append(SAGA, 1, "x"), heads=[stands], dead_letters=[letter])
    assert left[SAGA.saga_id] == await head_of(store)


async def test_one_saga_that_cannot_be_stored_does_not_stop_the_others(store: Store) -> None:
    """That is told before anything is written, as ever."""
    await begun(store, SAGA, start("K-2"))
    heads = [await head_of(store), await head_of(store, start("K-2"))]
    assumed = await now_of(store)
    async with store.batch() as batch:
        batch.presume(heads, [], [], assumed)
        appends = [append(SAGA, 1, "x"), append(start("K-2"), 1, records=[record("x", {"n": float("nan")})])]
        with pytest.raises(InvalidAppendError) as refused:
            await batch.write(BatchWrite(appends))
        assert refused.value.sagas == (start("K-2").saga_id,)
        await batch.write(BatchWrite(appends[:1]))
    assert (await head_of(store)).version == 2


async def test_it_is_instead_of_asking(store: Store) -> None:
    """One batch knows or believes, not both."""
    async with store.batch() as batch:
        batch.presume([], [], [], 1)
        with pytest.raises(StoreError, match="once"):
            await batch.lock_keys([("main", "Paid", "K-1")])
        with pytest.raises(StoreError, match="once"):
            await batch.claim([], [], [])
    async with store.batch() as batch:
        await batch.claim([], [], [])
        with pytest.raises(StoreError, match="instead"):
            batch.presume([], [], [], 1)


async def test_an_exception_before_the_write_leaves_nothing(store: Store) -> None:
    """Nothing had been asked or written."""

    async def broken() -> None:
        async with store.batch() as batch:
            batch.presume([], [SAGA], [message("m-1")], 1)
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="bug"):
        await broken()
    assert await claimed(store, SAGA.saga_id, messages=[message("m-1")]) == ({}, ["new"])


async def test_a_commit_that_was_unknown_is_found_by_its_records(store: Store) -> None:
    """Also of a presumed batch."""
    more = append(SAGA, 0, "saga.started")
    assert not await store.committed([more], [])
    await presumed(store, more)
    assert await store.committed([more], [])


async def test_the_feed_keeps_the_order_of_versions_whoever_wrote(store: Store) -> None:
    """Numbers are taken under the locks, in both ways."""
    await begun(store, SAGA)
    for version in range(1, 8):
        if version % 2:
            await presumed(store, append(SAGA, version, f"v{version}"), heads=[await head_of(store)])
        else:
            await written(store, append(SAGA, version, f"v{version}"))
    assert [found.version async for found in store.records(0, 100)] == list(range(1, 9))


async def test_of_many_that_believe_the_same_head_one_writes(store: Store) -> None:
    """The others notice, ask, and find its record; none waits for another one for ever."""
    sagas = [start(f"K-{n}") for n in range(6)]
    await begun(store, *sagas)
    heads = [await head_of(store, saga) for saga in sagas]
    wrong = 0

    async def one(place: int) -> None:
        nonlocal wrong
        mine = [*sagas[place % 6 :], *sagas[: place % 6]][:4]
        new = start(f"new-{place // 2}")
        believed = [head for head in heads if head.saga_id in {saga.saga_id for saga in mine}]
        appends = [append(saga, 1, f"by {place}") for saga in mine]
        try:
            await presumed(store, *appends, append(new, 0, "saga.started"), heads=believed)
        except PresumedWrongError:  # and no deadlock, which would be another error
            wrong += 1

    await asyncio.gather(*(one(place) for place in range(12)))
    versions = [(await head_of(store, saga)).version for saga in sagas]
    assert wrong >= 10
    assert set(versions) <= {1, 2}
    assert versions.count(2) == 4 * (12 - wrong)
