"""The store's contract: what has to happen next: messages to send, timers, waits, resumes; and what was read so far."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.kernel.effects import Subscription, Timer
from orchestrator.store.contract import BatchWrite, ConflictError, DeadLetter, EarlyEvent, EventKey, Store, Waiting
from tests.contracts.stores import SECOND, append, begun, claimed, outgoing, start, written

KEY: EventKey = ("main", "PaymentReceived", "K-1")


def early(event_id: str = "bank\n1", arrived_at: int = 5, key: EventKey = KEY) -> EarlyEvent:
    """An event that nobody waits for yet."""
    return EarlyEvent(*key, event_id, {"amount": "6000"}, arrived_at, "00-ab-cd-01")


class TestRelay:
    async def test_unsent_messages_come_in_the_order_of_versions_until_they_are_marked(self, store: Store) -> None:
        """With the bytes as they were decided."""
        first, second = start("K-1"), start("K-2")
        raw = (("ce_id", b"1"), ("twice", b"a"), ("twice", b"\xff\x00 b"), ("empty", b""))
        rows = [outgoing(first, 1), outgoing(first, 2, b"\x00\xff"), outgoing(second, 1)]
        rows[1] = type(rows[1])(first.saga_id, 2, "t", "kéy", raw, b"\x00\xff")
        await written(
            store, append(second, 0, "x", outbox=rows[2:]), append(first, 0, "x", "y", outbox=rows[:2])
        )  # fmt: skip
        assert await store.unsent(0, 1, 10) == rows
        assert await store.unsent(0, 1, 10) == rows
        await store.mark_sent([(first.saga_id, 1)])
        assert await store.unsent(0, 1, 10) == rows[1:]
        await store.mark_sent([(first.saga_id, 1), (second.saga_id, 1), (first.saga_id, 2)])
        assert await store.unsent(0, 1, 10) == []

    async def test_every_saga_belongs_to_one_shard(self, store: Store) -> None:
        """Two relays never hold messages of one saga."""
        sagas = [start(f"K-{n}") for n in range(40)]
        await written(store, *(append(s, 0, "x", "y", outbox=[outgoing(s, 1), outgoing(s, 2)]) for s in sagas))
        shards = [{row.saga_id for row in await store.unsent(shard, 3, 100)} for shard in range(3)]
        assert sorted(saga_id for shard in shards for saga_id in shard) == sorted(saga.saga_id for saga in sagas)
        assert all(shards)

    async def test_the_oldest_are_sent_first_when_there_are_too_many(self, store: Store) -> None:
        """No saga waits for ever because others have smaller ids."""
        old, young = start("z"), start("a")
        await written(store, append(old, 0, "x", outbox=[outgoing(old, 1)]))
        await written(store, append(young, 0, "x", outbox=[outgoing(young, 1)]))
        assert [row.saga_id for row in await store.unsent(0, 1, 1)] == [old.saga_id]

    async def test_a_limit_never_cuts_out_the_middle_of_a_saga(self, store: Store) -> None:
        """What is left out comes after what is given."""
        saga = start()
        await written(store, append(saga, 0, *"xyz", outbox=[outgoing(saga, version) for version in (1, 2, 3)]))
        assert [row.version for row in await store.unsent(0, 1, 2)] == [1, 2]


class TestTimers:
    async def test_a_timer_is_due_by_the_database_clock_and_not_after_the_limit(self, store: Store) -> None:
        """The limit is how far intake has read: what came in time must be taken in before time is up."""
        saga = start()
        async with store.batch() as batch:
            await batch.claim([], [saga], [])
            now = batch.now
            timers = [Timer("past", now - 9 * SECOND, 1), Timer("just", now - 1, 1), Timer("later", now + SECOND, 1)]
            await batch.write(BatchWrite([append(saga, 0, "x", timers_set=timers)]))
        assert await store.due_timers(None, 10) == [(saga.saga_id, "past", 1), (saga.saga_id, "just", 1)]
        assert await store.due_timers(None, 1) == [(saga.saga_id, "past", 1)]
        assert await store.due_timers(now - 5 * SECOND, 10) == [(saga.saga_id, "past", 1)]
        assert await store.due_timers(now - 10 * SECOND, 10) == []
        assert await store.due_timers(now + 9 * SECOND, 10) == [(saga.saga_id, "past", 1), (saga.saga_id, "just", 1)]

    async def test_cleared_replaced_and_fired_timers_are_gone(self, store: Store) -> None:
        """A fired one only if it is still the one that was handed out. The deadline of the saga has the id ""."""
        saga = start()
        names = ["cleared", "replaced", "fired", "other", ""]
        await written(store, append(saga, 0, "x", timers_set=[Timer(name, 1, 1) for name in names]))
        change = append(saga, 1, "x", timers_cleared=["cleared", "replaced"], timers_set=[Timer("replaced", 2, 2)])
        await written(store, change, timers_fired=[(saga.saga_id, "fired", 1), (saga.saga_id, "other", 7)])
        expected = [(saga.saga_id, "", 1), (saga.saga_id, "other", 1), (saga.saga_id, "replaced", 2)]
        assert sorted(await store.due_timers(None, 10)) == expected
        await written(store, append(saga, 2, "x", timers_set=[Timer("other", 3, 3)]), timers_fired=[expected[1]])
        await written(store, append(saga, 3, "x", timers_cleared=[""]))
        await written(store, timers_fired=[expected[2]])
        assert await store.due_timers(None, 10) == [(saga.saga_id, "other", 3)]

    async def test_an_attempt_has_all_its_time_after_its_command_was_published(self, store: Store) -> None:
        """An outage of the broker burns nobody's attempts (kernel rule 9)."""
        saga = start()
        async with store.batch() as batch:
            await batch.claim([], [saga], [])
            timers = [Timer("asked", batch.now + SECOND // 2, 2, command_version=2), Timer("free", batch.now, 1)]
            await batch.write(
                BatchWrite([append(saga, 0, "x", "y", outbox=[outgoing(saga, 2)], timers_set=timers)])
            )  # fmt: skip
        await asyncio.sleep(0.6)
        assert await store.due_timers(None, 10) == [(saga.saga_id, "free", 1)]
        await store.mark_sent([(saga.saga_id, 2)])
        assert await store.due_timers(None, 10) == [(saga.saga_id, "free", 1)]
        await asyncio.sleep(0.3)
        assert await store.due_timers(None, 10) == [(saga.saga_id, "free", 1)]
        await asyncio.sleep(0.3)
        assert await store.due_timers(None, 10) == [(saga.saga_id, "free", 1), (saga.saga_id, "asked", 2)]

    async def test_a_timer_that_waits_for_its_command_is_not_in_the_way_of_others(self, store: Store) -> None:
        """It moves on at once, so the next look finds what stood behind it."""
        saga = start()
        timers = [Timer("asked", 1, 1, command_version=1), Timer("free", 2, 1)]
        await written(store, append(saga, 0, "x", outbox=[outgoing(saga, 1)], timers_set=timers))
        assert await store.due_timers(None, 1) == []
        assert await store.due_timers(None, 1) == [(saga.saga_id, "free", 1)]

    async def test_resumes_are_due_until_they_are_done(self, store: Store) -> None:
        """A turn that resumes may stop at the limit again."""
        saga, other = start("K-1"), start("K-2")
        await written(store, append(saga, 0, "x", resume=True))
        await written(store, append(other, 0, "x", resume=True))
        assert await store.due_resumes(10) == [saga.saga_id, other.saga_id]
        assert await store.due_resumes(1) == [saga.saga_id]
        await written(store, append(saga, 1, "x", resume=True), resumes_done=[saga.saga_id, other.saga_id])
        assert await store.due_resumes(10) == [saga.saga_id]
        await written(store, append(saga, 2, "x"), resumes_done=[saga.saga_id])
        assert await store.due_resumes(10) == []


class TestWaits:
    async def test_a_key_knows_who_waits_for_it_longest_first(self, store: Store) -> None:
        """Of the same tenant, type and key, and until the wait is closed."""
        sagas = [start(f"K-{n}") for n in (3, 1, 2)]
        for saga in sagas:
            await written(store, append(saga, 0, "x", waits_opened=[Subscription("w", KEY[1], KEY[2], 7)]))
        other = start("K-9", tenant="other")
        await written(store, append(other, 0, "x", waits_opened=[Subscription("w", KEY[1], KEY[2], 7)]))
        expected = [Waiting(saga.saga_id, "w", KEY[1], KEY[2], 7) for saga in sagas]
        assert await self.waiting(store) == expected
        await written(store, append(sagas[1], 1, "x", waits_closed=["w"]))
        assert await self.waiting(store) == [expected[0], expected[2]]

    async def test_a_wait_that_opens_anew_forgets_its_older_keys(self, store: Store) -> None:
        """An activity in its second round waits for that round's event alone."""
        saga = start()
        await written(store, append(saga, 0, "x", waits_opened=[Subscription("w", KEY[1], "old", 1)]))
        await written(store, append(saga, 1, "x", waits_opened=[Subscription("w", KEY[1], KEY[2], 9)]))
        assert await self.waiting(store) == [Waiting(saga.saga_id, "w", KEY[1], KEY[2], 9)]
        assert await self.waiting(store, ("main", KEY[1], "old")) == []

    async def test_an_early_event_is_kept_once_with_all_it_said(self, store: Store) -> None:
        """Earliest first."""
        await written(store, early=[early("bank\n2", 9), early("bank\n1", 5)])
        await written(store, early=[early("bank\n1", 99)])
        async with store.batch() as batch:
            assert (await batch.lock_keys([KEY]))[1] == [early("bank\n1", 5), early("bank\n2", 9)]
        async with store.batch() as batch:
            assert await batch.lock_keys([("other", *KEY[1:])]) == ([], [])

    async def test_a_check_is_due_only_where_something_early_is_kept(self, store: Store) -> None:
        """Nearly always there is nothing, and then nobody needs to do anything."""
        saga, lucky = start("K-1"), start("K-2")
        lucky_key = ("main", KEY[1], "K-2")
        await written(store, early=[early(key=lucky_key)])
        for found, key in ((saga, "K-1"), (lucky, "K-2")):
            await written(store, append(found, 0, "x", waits_opened=[Subscription("w", KEY[1], key, 3)]))
        due = [Waiting(lucky.saga_id, "w", KEY[1], "K-2", 3)]
        assert await store.due_checks(10) == due
        assert await store.due_checks(10) == due
        await written(store, checks_done=[(lucky.saga_id, "w", KEY[1], "K-2")])
        assert await store.due_checks(10) == []
        await written(store, append(lucky, 1, "x", waits_closed=["w"], waits_opened=[Subscription("v", *KEY[1:], 3)]))
        assert await store.due_checks(10) == []

    async def test_a_check_that_is_done_in_the_batch_that_opens_its_wait_is_never_due(self, store: Store) -> None:
        """Whoever held the lock of the key has looked already; nobody needs to look again."""
        saga = start("K-1")
        wait = Subscription("w", KEY[1], "K-1", 3)
        done = [(saga.saga_id, wait.activity, wait.type, wait.key)]
        await written(store, append(saga, 0, "x", waits_opened=[wait]), early=[early()], checks_done=done)
        assert await self.waiting(store) == [Waiting(saga.saga_id, "w", KEY[1], "K-1", 3)]
        assert await store.due_checks(10) == []

    @pytest.mark.parametrize("wait_is_first", [True, False])
    async def test_an_event_and_the_wait_for_it_never_pass_each_other(self, store: Store, wait_is_first: bool) -> None:
        """Both transactions are open at once, each began before the other committed, and still they meet."""
        saga = start()
        await begun(store, saga)
        both_open = asyncio.Barrier(2)

        async def wait_opens() -> None:
            """Not knowing the key before the turn, so without its lock."""
            async with store.batch() as batch:
                await batch.claim([saga.saga_id], [], [])
                await both_open.wait()
                await asyncio.sleep(0.0 if wait_is_first else 0.1)
                await batch.write(
                    BatchWrite([append(saga, 1, "event.awaited", waits_opened=[Subscription("w", *KEY[1:], 0)])])
                )  # fmt: skip

        async def event_arrives() -> list[Waiting]:
            async with store.batch() as batch:
                waiting, _ = await batch.lock_keys([KEY])
                await batch.claim([], [], [])
                await both_open.wait()
                await asyncio.sleep(0.1 if wait_is_first else 0.0)
                if not waiting:
                    await batch.write(BatchWrite(early=[early()]))
                return waiting

        _, waiting = await asyncio.gather(wait_opens(), event_arrives())
        assert waiting == []
        assert await store.due_checks(10) == [Waiting(saga.saga_id, "w", *KEY[1:], 0)]

    async def test_a_check_waits_for_the_event_that_is_being_kept(self, store: Store) -> None:
        """Looking without the lock of the key would tick the check off too early."""
        saga = start()
        await written(store, append(saga, 0, "x", waits_opened=[Subscription("w", *KEY[1:], 0)]))
        async with store.batch() as batch:
            await batch.lock_keys([KEY])
            await batch.claim([], [], [])
            await batch.write(BatchWrite(early=[early()]))
            checks = asyncio.create_task(store.due_checks(10))
            await asyncio.sleep(0.1)
            assert not checks.done()
        assert await checks == [Waiting(saga.saga_id, "w", *KEY[1:], 0)]

    async def test_a_check_and_a_batch_that_closes_its_wait_never_wait_for_each_other(self, store: Store) -> None:
        """The batch has the key and wants the check; whoever looks at the check wants the key."""
        saga = start()
        await written(store, append(saga, 0, "x", waits_opened=[Subscription("w", *KEY[1:], 0)]), early=[early()])
        async with store.batch() as batch:
            await batch.lock_keys([KEY])
            await batch.claim([saga.saga_id], [], [])
            checks = asyncio.create_task(store.due_checks(10))
            await asyncio.sleep(0.1)
            assert not checks.done()
            await batch.write(BatchWrite([append(saga, 1, "x", waits_closed=["w"])]))
        assert await checks == []

    async def test_a_batch_waits_for_the_one_that_has_the_key(self, store: Store) -> None:
        """And then sees the wait that the other has opened meanwhile."""
        saga = start()
        async with store.batch() as batch:
            await batch.lock_keys([KEY, ("main", "x", "y")])
            await batch.claim([], [saga], [])
            second = asyncio.create_task(self.waiting(store))
            await asyncio.sleep(0.1)
            assert not second.done()
            await batch.write(BatchWrite([append(saga, 0, "x", waits_opened=[Subscription("w", *KEY[1:], 0)])]))
        assert await second == [Waiting(saga.saga_id, "w", *KEY[1:], 0)]

    async def test_an_event_is_taken_once_by_all_runs_of_a_key(self, store: Store) -> None:
        """By every saga that waits for it, but never again by a later run (kernel rule 23)."""
        first, rerun, other = start(), start(run=".2"), start(name="refund")
        await written(store, append(first, 0, "x", consumed=["bank\n1"], ended=True), early=[early()])
        async with store.batch() as batch:
            (kept,) = (await batch.lock_keys([KEY]))[1]
            assert kept.consumed_by == {("transfer", "K-1")}
            await batch.claim([], [rerun, other], [])
            appends = [append(rerun, 0, "x", consumed=["bank\n1"]), append(other, 0, "x", consumed=["bank\n1"])]
            with pytest.raises(ConflictError, match=f"takes event bank 1, which saga {first.saga_id}") as conflict:
                await batch.write(BatchWrite(appends))
            assert conflict.value.sagas == (rerun.saga_id,)
            await batch.write(BatchWrite(appends[1:]))
        async with store.batch() as batch:
            (kept,) = (await batch.lock_keys([KEY]))[1]
            assert kept.consumed_by == {("transfer", "K-1"), ("refund", "K-1")}

    @staticmethod
    async def waiting(store: Store, key: EventKey = KEY) -> list[Waiting]:
        """Who waits for a key."""
        async with store.batch() as batch:
            return (await batch.lock_keys([key]))[0]


class TestPositions:
    async def test_a_position_never_goes_back(self, store: Store) -> None:
        """An owner that froze and woke up late writes its old one."""
        group = "coordinator"
        assert await store.positions(group, [("t", 0), ("t", 1)]) == {("t", 0): None, ("t", 1): None}
        assert await store.read_until(group) is None
        await written(store, positions={(group, "t", 0): (10, 500), (group, "t", 1): (7, 300)})
        await written(store, positions={(group, "t", 0): (4, 100), ("other", "t", 1): (1, 1)})
        assert await store.positions(group, [("t", 0), ("t", 1)]) == {("t", 0): 10, ("t", 1): 7}
        assert await store.read_until(group) == 300
        await written(store, positions={(group, "t", 1): (7, 900)})
        assert await store.read_until(group) == 500

    async def test_a_definition_keeps_the_hash_it_was_first_stored_with(self, store: Store) -> None:
        """So that somebody notices code that changed under one version."""
        assert await store.register_definition("transfer", 1, "hash-a", {"nodes": []}) == "hash-a"
        assert await store.register_definition("transfer", 1, "hash-b", {"nodes": [1]}) == "hash-a"
        assert await store.register_definition("transfer", 2, "hash-b", {}) == "hash-b"

    async def test_whatever_bytes_came_are_kept_as_a_dead_letter(self, store: Store) -> None:
        """With a NUL in every text, without key or value, with headers of any bytes; and the batch commits."""
        letter = DeadLetter(
            "main", "t", 0, 7, None, None, [("h\0", b"\xff"), ("h\0", b"")], "null_value", "a\0b", "m\0"
        )
        saga = start()
        await written(store, append(saga, 0, "x", waiting_for="a\0b", outcome="\ud800"), dead_letters=[letter, letter])
        assert saga.saga_id in (await claimed(store, saga.saga_id))[0]
