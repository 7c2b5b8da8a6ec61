"""The store's contract: batches. Every implementation keeps these promises (`orchestrator/store/contract.py`)."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.store.chain import verify
from orchestrator.store.contract import (
    BatchWrite,
    ConflictError,
    EarlyEvent,
    InvalidAppendError,
    MessageFate,
    NewRecord,
    Store,
    StoreError,
)
from tests.contracts.stores import append, begun, claimed, message, record, start, written


class TestStreams:
    async def test_a_start_is_claimed_at_version_zero_and_found_again_at_its_last_record(self, store: Store) -> None:
        """The head that a batch gets is what the next append must agree with."""
        saga = start()
        async with store.batch() as batch:
            heads, _ = await batch.claim([], [saga], [])
            assert (heads[saga.saga_id].version, heads[saga.saga_id].hash) == (0, b"")
            await batch.write(BatchWrite([append(saga, 0, "saga.started", "step.requested", phase="forward")]))
        heads, _ = await claimed(store, saga.saga_id)
        async with store.batch() as batch:
            stream = (await batch.streams([saga.saga_id]))[saga.saga_id]
        head = heads[saga.saga_id]
        assert (head.version, head.hash, head.recorded_at) == (2, stream[-1].hash, stream[-1].recorded_at)
        assert (head.tenant, head.name, head.business_key, head.definition_version) == ("main", "transfer", "K-1", 1)

    async def test_a_stream_reads_back_as_it_was_written_and_its_chain_holds(self, store: Store) -> None:
        """Also what JSON and databases like to change: order, escapes, big numbers, text outside ASCII."""
        saga = start()
        data = {"ü": "\u0000 \u2028 ñ", "n": 2**53 - 1, "list": [None, True, 0.1, {"b": 1, "a": 2}], "empty": {}}
        new = NewRecord("step.succeeded", "lines[2]/reserve", data, "participant:stock", "m-1", "00-ab-cd-01")
        await written(store, append(saga, 0, "saga.started"))
        now = await written(store, append(saga, 1, records=[new, record("x")]))
        async with store.batch() as batch:
            stream = (await batch.streams([saga.saga_id, "unknown"]))[saga.saga_id]
            assert (await batch.streams(["unknown"]))["unknown"] == []
        second = stream[1]
        assert [line.version for line in stream] == [1, 2, 3]
        assert (second.type, second.activity, second.data, second.actor) == (new.type, new.activity, data, new.actor)
        assert (second.causation_id, second.traceparent, second.recorded_at) == ("m-1", "00-ab-cd-01", now)
        assert (second.tenant, second.correlation_id) == ("main", saga.saga_id)
        assert verify(stream) is None

    async def test_an_exception_inside_a_batch_leaves_nothing_of_it(self, store: Store) -> None:
        """Records, messages and positions go together or not at all."""
        saga = start()

        async def broken() -> None:
            async with store.batch() as batch:
                await batch.claim([], [saga], [message("m-1")])
                await batch.write(BatchWrite([append(saga, 0, "saga.started")], positions={("g", "t", 0): (5, 5)}))
                raise RuntimeError("the coordinator has a bug")

        with pytest.raises(RuntimeError, match="has a bug"):
            await broken()
        heads, fates = await claimed(store, saga.saga_id, messages=[message("m-1")])
        assert (heads, fates) == ({}, ["new"])
        assert await store.positions("g", [("t", 0)]) == {("t", 0): None}

    async def test_the_clock_never_goes_back_within_a_stream(self, store: Store) -> None:
        """`now` is read after the locks, so a batch that waited does not record an earlier time."""
        saga = start()
        await begun(store, saga)
        before = 0
        for version in range(1, 6):
            now = await written(store, append(saga, version, "x"))
            assert now > before
            before = now

    async def test_a_batch_locks_once_and_keys_first(self, store: Store) -> None:
        """Locking in another order is how two batches wait for each other."""
        async with store.batch() as batch:
            with pytest.raises(StoreError, match="before claim"):
                await batch.write(BatchWrite())
            await batch.claim([], [], [])
            with pytest.raises(StoreError, match="once per batch"):
                await batch.claim([], [], [])
            with pytest.raises(StoreError, match="before claim"):
                await batch.lock_keys([("main", "PaymentReceived", "K-1")])


class TestConflicts:
    async def test_one_saga_that_moved_does_not_stop_the_others(self, store: Store) -> None:
        """The error names it, nothing is written yet, and the same batch goes on without it."""
        moved, fine = start("K-1"), start("K-2")
        await begun(store, moved, fine)
        async with store.batch() as batch:
            await batch.claim([moved.saga_id, fine.saga_id], [], [message("m-1")])
            appends = [append(moved, 0, "x"), append(fine, 1, "x")]
            with pytest.raises(ConflictError, match="is at version 1, expected 0") as conflict:
                await batch.write(BatchWrite(appends))
            assert conflict.value.sagas == (moved.saga_id,)
            assert conflict.value.retriable
            await batch.write(BatchWrite(appends[1:]))
        heads, fates = await claimed(store, moved.saga_id, fine.saga_id, messages=[message("m-1")])
        assert {head.saga_id: head.version for head in heads.values()} == {moved.saga_id: 1, fine.saga_id: 2}
        assert fates == ["seen"]

    async def test_one_saga_that_cannot_be_stored_does_not_stop_the_others(self, store: Store) -> None:
        """Not a number has no canonical form; nobody may find out after half a batch."""
        bad, fine = start("K-1"), start("K-2")
        async with store.batch() as batch:
            await batch.claim([], [bad, fine], [])
            appends = [append(fine, 0, "x"), append(bad, 0, records=[record("x", {"score": float("nan")})])]
            with pytest.raises(InvalidAppendError, match="cannot be stored") as refused:
                await batch.write(BatchWrite(appends))
            assert refused.value.sagas == (bad.saga_id,)
            await batch.write(BatchWrite(appends[:1]))
        assert set((await claimed(store, bad.saga_id, fine.saga_id))[0]) == {fine.saga_id}

    async def test_a_saga_that_was_not_claimed_cannot_be_written(self, store: Store) -> None:
        """Without its lock nobody knows where its stream ends."""
        saga = start()
        await begun(store, saga)
        async with store.batch() as batch:
            await batch.claim([], [], [])
            with pytest.raises(ConflictError, match="not claimed"):
                await batch.write(BatchWrite([append(saga, 1, "x")]))

    async def test_a_record_names_the_tenant_of_its_saga(self, store: Store) -> None:
        """The tenant is inside the hash; another one there would be another one's evidence."""
        saga = start()
        await begun(store, saga)
        async with store.batch() as batch:
            await batch.claim([saga.saga_id], [], [])
            with pytest.raises(InvalidAppendError, match="belongs to tenant 'main', its records name 'other'"):
                await batch.write(BatchWrite([replace(append(saga, 1, "x"), tenant="other")]))

    async def test_a_batch_is_written_once(self, store: Store) -> None:
        """And an early event that cannot be stored is told before anything is."""
        saga = start()
        bad = EarlyEvent("main", "t", "k", "e", {"n": float("nan")}, 1)
        async with store.batch() as batch:
            await batch.claim([], [saga], [])
            with pytest.raises(InvalidAppendError, match="an early event cannot be stored"):
                await batch.write(BatchWrite([append(saga, 0, "x")], early=[bad]))
            await batch.write(BatchWrite([append(saga, 0, "x")]))
            with pytest.raises(StoreError, match="once per batch"):
                await batch.write(BatchWrite())

    async def test_a_saga_stands_only_once_in_a_batch(self, store: Store) -> None:
        """Two turns of one saga are one append with net effects."""
        saga = start()
        async with store.batch() as batch:
            await batch.claim([], [saga], [])
            with pytest.raises(InvalidAppendError, match="twice in one batch"):
                await batch.write(BatchWrite([append(saga, 0, "x"), append(saga, 0, "y")]))

    async def test_the_second_of_two_batches_on_one_saga_sees_what_the_first_wrote(self, store: Store) -> None:
        """It waits at `claim`; it never decides on a state that is about to change."""
        saga = start()
        await begun(store, saga)
        order: list[str] = []

        async def second() -> tuple[int, int]:
            async with store.batch() as batch:
                heads, _ = await batch.claim([saga.saga_id], [], [])
                order.append("second has the head")
                return heads[saga.saga_id].version, batch.now

        async with store.batch() as batch:
            await batch.claim([saga.saga_id], [], [])
            waiting = asyncio.create_task(second())
            await asyncio.sleep(0.1)
            await batch.write(BatchWrite([append(saga, 1, "x")]))
            order.append("first has written")
        version, now = await waiting
        assert (version, order) == (2, ["first has written", "second has the head"])
        assert now > batch.now + 90_000, "the clock was read before the lock was there"

    @pytest.mark.parametrize("what", ["keys", "sagas", "starts", "runs", "messages"])
    async def test_batches_over_the_same_things_in_any_order_never_wait_for_each_other(
        self, store: Store, what: str
    ) -> None:
        """Each kind of lock by itself, since any one hides the others, and so many that the batches overlap."""
        many = 5_000 if what == "messages" else 800
        old = [start(f"old-{n}") for n in range(many if what == "sagas" else 0)]
        await begun(store, *old)

        async def batch_of(place: int) -> list[MessageFate]:
            numbers = list(range(many))[:: 1 if place % 2 else -1]
            run = f".{place}" if what == "runs" else ""
            new = [start(f"new-{n}", run=run) for n in numbers] if what in ("starts", "runs") else []
            known = [saga.saga_id for saga in old[:: 1 if place % 2 else -1]]
            messages = [message(f"m-{n}") for n in numbers] if what == "messages" else []
            async with store.batch() as batch:
                if what == "keys":
                    await batch.lock_keys([("main", "PaymentReceived", f"key-{n}") for n in numbers])
                _, fates = await batch.claim(known, new, messages)
                return fates

        fates = await asyncio.gather(*(batch_of(place) for place in range(8)))
        assert sum(found.count("new") for found in fates) == (many if what == "messages" else 0)

    async def test_batches_with_everything_in_any_order_get_through(self, store: Store) -> None:
        """All kinds of locks at once, and writes."""
        old = [start(f"old-{n}") for n in range(20)]
        await begun(store, *old)

        async def batch_of(place: int) -> int:
            turn = 1 if place % 2 else -1
            new = [start(f"new-{n}") for n in range(20)][::turn]
            async with store.batch() as batch:
                await batch.lock_keys([("main", "PaymentReceived", f"key-{n}") for n in range(20)][::turn])
                messages = [message(f"m-{n}") for n in range(20)][::turn]
                heads, fates = await batch.claim([saga.saga_id for saga in old[::turn]], new, messages)
                await asyncio.sleep(0.001)
                appends = [append(saga, heads[saga.saga_id].version, "x") for saga in (*old, *new)]
                await batch.write(BatchWrite(appends))
                return fates.count("new")

        assert sum(await asyncio.gather(*(batch_of(place) for place in range(16)))) == 20
        heads, _ = await claimed(store, *(saga.saga_id for saga in old))
        assert {head.version for head in heads.values()} == {17}


class TestStarts:
    async def test_a_start_that_is_not_written_leaves_no_saga_and_no_live_run(self, store: Store) -> None:
        """Whether the batch wrote others, wrote nothing, or was only a look."""
        saga, other, rival = start("K-1"), start("K-2"), start("K-1", run=".2")
        async with store.batch() as batch:
            await batch.claim([], [saga, other], [])
            await batch.write(BatchWrite([append(other, 0, "saga.started")]))
        await claimed(store, saga)
        heads, _ = await claimed(store, saga.saga_id, other.saga_id)
        assert set(heads) == {other.saga_id}
        heads, _ = await claimed(store, rival)
        assert heads[rival.saga_id].run_owner == rival.saga_id

    async def test_a_second_run_of_a_business_key_sees_who_has_it(self, store: Store) -> None:
        """One live run per tenant, saga and key; other tenants and sagas do not count."""
        first, second = start(), start(run=".2")
        await begun(store, first)
        others = [start(tenant="other"), start(name="refund")]
        async with store.batch() as batch:
            heads, _ = await batch.claim([], [second, *others], [])
            assert heads[second.saga_id].run_owner == first.saga_id
            assert [heads[saga.saga_id].run_owner for saga in others] == [saga.saga_id for saga in others]
            with pytest.raises(InvalidAppendError, match="is the live run of transfer 'K-1'") as refused:
                await batch.write(BatchWrite([append(second, 0, "saga.started")]))
            assert refused.value.sagas == (second.saga_id,)

    async def test_the_key_is_free_when_the_run_has_ended(self, store: Store) -> None:
        """And a message that starts the ended one again takes nothing from the new one."""
        first, second = start(), start(run=".2")
        await begun(store, first)
        await written(store, append(first, 1, "saga.completed", ended=True))
        await begun(store, second)
        heads, _ = await claimed(store, first)
        assert (heads[first.saga_id].version, heads[first.saga_id].ended) == (2, True)
        assert heads[first.saga_id].run_owner == second.saga_id

    async def test_a_tombstone_needs_no_live_run(self, store: Store) -> None:
        """The undo of a child that never started ends a saga that another's run stands in front of."""
        first, second = start(), start(run=".2")
        await begun(store, first)
        await written(store, append(second, 0, "saga.tombstoned", ended=True))
        heads, _ = await claimed(store, start(run=".3"), second.saga_id)
        assert heads[start(run=".3").saga_id].run_owner == first.saga_id
        assert heads[second.saga_id].ended

    async def test_of_two_runs_that_start_at_the_same_time_one_has_the_key(self, store: Store) -> None:
        """The later one waits, and then sees the earlier one as owner."""
        runs = [start(run=f".{n}") for n in range(6)]

        async def begin(place: int) -> bool:
            async with store.batch() as batch:
                heads, _ = await batch.claim([], [runs[place]], [])
                mine = heads[runs[place].saga_id].run_owner == runs[place].saga_id
                await asyncio.sleep(0.005)
                if mine:
                    await batch.write(BatchWrite([append(runs[place], 0, "saga.started")]))
                return mine

        assert sorted(await asyncio.gather(*map(begin, range(6)))) == [False] * 5 + [True]

    async def test_the_same_start_at_the_same_time_makes_one_saga(self, store: Store) -> None:
        """Two copies of one start message, on two coordinators."""
        saga = start()

        async def begin() -> int:
            async with store.batch() as batch:
                heads, _ = await batch.claim([], [saga], [])
                version = heads[saga.saga_id].version
                if version == 0:
                    await asyncio.sleep(0.02)
                    await batch.write(BatchWrite([append(saga, 0, "saga.started")]))
                return version

        assert sorted(await asyncio.gather(*(begin() for _ in range(5)))) == [0, 1, 1, 1, 1]


class TestInbox:
    @pytest.mark.parametrize("others", [0, 100])
    async def test_a_message_is_new_once(self, store: Store, others: int) -> None:
        """Alone or among a hundred: the cheap way for many must tell the same."""
        rest = [message(f"other-{n}") for n in range(others)]
        seen: list[MessageFate] = []
        for _ in range(2):
            _, fates = await claimed(store, messages=[message("m-1"), *rest])
            seen.append(fates[0])
            assert set(fates[1:]) <= {"new", "seen"}
        assert seen == ["new", "seen"]

    @pytest.mark.parametrize("others", [0, 100])
    async def test_the_same_id_with_another_body_is_told_apart(self, store: Store, others: int) -> None:
        """Such a message is refused and kept, not taken for a duplicate."""
        rest = [message(f"other-{n}") for n in range(others)]
        await claimed(store, messages=[message("m-1", b"one")])
        _, fates = await claimed(store, messages=[message("m-1", b"two"), *rest, message("m-1", b"one")])
        assert (fates[0], fates[-1]) == ("other_body", "seen")
        assert fates[1:-1] == ["new"] * others

    @pytest.mark.parametrize("others", [0, 100])
    async def test_duplicates_inside_one_batch_are_told_too(self, store: Store, others: int) -> None:
        """The first of them is the message."""
        rest = [message(f"other-{n}") for n in range(others)]
        _, fates = await claimed(store, messages=[message("m", b"1"), message("m", b"1"), message("m", b"2"), *rest])
        assert fates == ["new", "seen", "other_body"] + ["new"] * others

    async def test_source_and_tenant_belong_to_the_identity(self, store: Store) -> None:
        """And no spelling makes two of them run together."""
        same = [message("1", source="a/"), message("/1", source="a"), message("1", source="a/", tenant="other")]
        _, fates = await claimed(store, messages=[*same, message("\u0000", source="\u0000"), message("", source="")])
        assert fates == ["new"] * 5

    @pytest.mark.parametrize("others", [0, 50])
    async def test_of_two_batches_with_the_same_message_one_gets_it(self, store: Store, others: int) -> None:
        """A partition that moved: the old owner and the new one have fetched the same."""

        async def take(place: int) -> MessageFate:
            async with store.batch() as batch:
                rest = [message(f"other-{place}-{n}") for n in range(others)]
                _, fates = await batch.claim([], [], [*rest, message("m-1")])
                await asyncio.sleep(0.01)
                return fates[-1]

        assert sorted(await asyncio.gather(*map(take, range(4)))) == ["new", "seen", "seen", "seen"]


class TestCommitted:
    async def test_a_batch_that_committed_is_recognised_and_another_is_not(self, store: Store) -> None:
        """By what stands in the streams, not by what somebody believes to have sent."""
        saga, other = start("K-1"), start("K-2")
        mine = [append(saga, 0, "saga.started"), append(other, 0, "saga.started")]
        assert not await store.committed(mine, [message("m-1")])
        await written(store, *mine, messages=[message("m-1")])
        assert await store.committed(mine, [message("m-1")])
        await written(store, append(saga, 1, "somebody.else"))
        assert await store.committed(mine, [message("m-1")])
        assert not await store.committed([append(saga, 1, "x")], [])
        assert not await store.committed([append(saga, 1, "somebody.else", "and.more")], [])

    async def test_a_batch_without_records_is_recognised_by_its_messages(self, store: Store) -> None:
        """Messages that led to nothing must not be taken in twice either."""
        messages = [message("m-1"), message("m-2")]
        assert not await store.committed([], messages)
        await claimed(store, messages=messages[:1])
        assert not await store.committed([], messages)
        await claimed(store, messages=messages[1:])
        assert await store.committed([], messages)
        assert not await store.committed([], [message("m-1", b"other body")])

    async def test_asking_leaves_nothing_behind(self, store: Store) -> None:
        """The question takes the batch's locks, so it must give them back."""
        saga = start()
        assert not await store.committed([append(saga, 0, "saga.started")], [message("m-1")])
        assert not await store.committed([], [message("m-1")])
        heads, fates = await claimed(store, saga.saga_id, messages=[message("m-1")])
        assert (heads, fates) == ({}, ["new"])
        assert not await store.committed([], [])
