"""The relay: nothing lost, nothing overtaken, whatever the broker does and wherever a process dies."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from orchestrator.broker.contract import BrokerUnavailableError, OutgoingMessage, SendError
from orchestrator.kernel.inputs import SendRefused
from orchestrator.runtime.relay import Relay
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.runtime.work import Item, Outcome, SagaInput
from orchestrator.store.contract import OutboxRow, StoreUnavailableError
from tests.databases import Database
from tests.runtime.desk import Desk, Eyes, at_desk, event, reply
from tests.runtime.shop import OrderPlaced, Reserved

UNAVAILABLE = SendError("unavailable", "no leader", retriable=True)
TOO_LARGE = SendError("too_large", "2 MB", retriable=False)


class Table:
    """The outbox in memory, in the order of commits."""

    def __init__(self) -> None:
        self.unsent_rows: dict[tuple[str, int], OutboxRow] = {}
        self.marked: set[tuple[str, int]] = set()

    def commit(self, *rows: OutboxRow) -> None:
        self.unsent_rows.update({(row.saga_id, row.version): row for row in rows})

    async def unsent(self, shard: int, shards: int, limit: int) -> list[OutboxRow]:
        oldest = list(self.unsent_rows.values())[:limit]
        await asyncio.sleep(0)
        return sorted(oldest, key=lambda row: (row.saga_id, row.version))

    async def mark_sent(self, places: Sequence[tuple[str, int]]) -> None:
        await asyncio.sleep(0)
        for place in places:
            self.unsent_rows.pop(place, None)
            self.marked.add(place)


class Log:
    """A broker that keeps what it takes, in order, and refuses what `refuse` says."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, int]] = []
        self.refuse: Any = lambda message: None

    async def send(self, messages: Sequence[OutgoingMessage]) -> list[SendError | None]:
        results: list[SendError | None] = []
        blocked: set[bytes | None] = set()
        for message in messages:
            await asyncio.sleep(0)
            error = UNAVAILABLE if message.key in blocked else self.refuse(message)
            if isinstance(error, Exception) and not isinstance(error, SendError):
                raise error
            if error is None:
                self.taken.append(((message.key or b"").decode(), int(message.value or b"0")))
            elif error.retriable:
                blocked.add(message.key)
            results.append(error)
        return results

    async def start(self) -> None: ...
    async def stop(self) -> None: ...


def row(saga: str, version: int) -> OutboxRow:
    return OutboxRow(saga, version, "t.commands", saga, (), str(version).encode())


def relay_of(table: Table, log: Log, given: list[Item] | None = None, **options: Any) -> Relay:
    async def process(items: Sequence[Item]) -> list[Outcome]:
        if given is not None:
            given.extend(items)
        return [Outcome("applied") for _ in items]

    settings: dict[str, Any] = {
        "tenant": "main", "batch_rows": 10, "memory_rows_max": 100, "backlog_rows_max": 50,
        "mark_ms": 5, "sweep_ms": 20, "poll_ms": 2, "retry_ms": 2,
    }  # fmt: skip
    return Relay(table, log, process, **(settings | options))  # type: ignore[arg-type]


class Running:
    """A relay with its loops; leaving it kills it at whatever await it stands."""

    def __init__(self, relay: Relay) -> None:
        self.relay, self.stopping = relay, Stopping()
        self.tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Relay:
        for loop in (self.relay.run, self.relay.mark, self.relay.sweep):
            self.tasks.append(asyncio.create_task(loop(self.stopping, Pulse("relay", 1_000))))
        return self.relay

    async def __aexit__(self, *_: object) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.wait(self.tasks)


async def settled(table: Table) -> None:
    """Waits until nothing is unsent."""
    await until(lambda: not table.unsent_rows, 5)


async def until(check: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


def first_occurrences(taken: Sequence[tuple[str, int]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for saga, version in taken:
        if version not in found.setdefault(saga, []):
            found[saga].append(version)
    return found


async def test_rows_go_out_in_order_and_are_marked() -> None:
    table, log = Table(), Log()
    async with Running(relay_of(table, log)) as relay:
        for version in range(1, 30):
            table.commit(row("a", version))
            relay.accept("a", [row("a", version)], foreign=False)
        await settled(table)
    assert log.taken == [("a", version) for version in range(1, 30)]


async def test_rows_of_a_saga_taken_over_never_overtake_those_that_another_process_left() -> None:
    table, log = Table(), Log()
    table.commit(row("a", 2))  # committed elsewhere, not sent yet
    async with Running(relay_of(table, log, sweep_ms=60_000)) as relay:
        table.commit(row("a", 5))
        relay.accept("a", [row("a", 5)], foreign=True)
        await settled(table)
        table.commit(row("a", 9))
        relay.accept("a", [row("a", 9)], foreign=False)
        await settled(table)
        assert relay.swept_rows == 2, "afterwards its rows go from memory again"
    assert log.taken == [("a", 2), ("a", 5), ("a", 9)]


async def test_a_row_that_is_not_taken_for_now_holds_back_its_own_saga_alone() -> None:
    table, log = Table(), Log()
    broken = True
    log.refuse = lambda message: UNAVAILABLE if broken and message.key == b"a" else None
    async with Running(relay_of(table, log)) as relay:
        for version in range(1, 6):
            table.commit(row("a", version), row("b", version))
            relay.accept("a", [row("a", version)], foreign=False)
            relay.accept("b", [row("b", version)], foreign=False)
            await asyncio.sleep(0.005)
        await until(lambda: len([taken for taken in log.taken if taken[0] == "b"]) == 5, 2)
        assert {saga for saga, _ in log.taken} == {"b"}
        broken = False
        await settled(table)
    assert first_occurrences(log.taken) == {"a": [1, 2, 3, 4, 5], "b": [1, 2, 3, 4, 5]}


async def test_rows_that_wait_in_memory_do_not_overtake_one_that_was_not_taken() -> None:
    table, log = Table(), Log()
    refusals = iter([UNAVAILABLE])
    log.refuse = lambda message: next(refusals, None)
    async with Running(relay_of(table, log, batch_rows=1)) as relay:
        rows = [row("a", version) for version in range(1, 6)]
        table.commit(*rows)
        relay.accept("a", rows, foreign=False)
        await settled(table)
    assert first_occurrences(log.taken) == {"a": [1, 2, 3, 4, 5]}


async def test_in_a_healthy_world_nothing_is_sent_twice() -> None:
    """Also where rows of one saga go both ways at once: from memory, and by way of the table."""
    table, log = Table(), Log()
    async with Running(relay_of(table, log, sweep_ms=3)) as relay:
        for version in range(1, 40):
            for saga in ("a", "b", "c"):
                table.commit(row(saga, version))
                relay.accept(saga, [row(saga, version)], foreign=version % 7 == 0)
            await asyncio.sleep(0)
        await settled(table)
    assert len(log.taken) == len(set(log.taken))


async def test_a_mark_that_fails_is_made_up_for_without_sending_again() -> None:
    table, log = Table(), Log()
    relay = relay_of(table, log, sweep_ms=60_000)
    real, failures = table.mark_sent, iter([1, 1])

    async def failing(places: Sequence[tuple[str, int]]) -> None:
        if next(failures, None):
            raise StoreUnavailableError("away")
        await real(places)

    table.mark_sent = failing  # type: ignore[method-assign]
    async with Running(relay):
        table.commit(row("a", 1), row("a", 2))
        relay.accept("a", [row("a", 1), row("a", 2)], foreign=False)
        await settled(table)
    assert log.taken == [("a", 1), ("a", 2)]


async def test_many_blocked_rows_do_not_hide_the_rows_behind_them() -> None:
    """A topic that is away for long fills the front of the table; others must still be found behind it."""
    table, log = Table(), Log()
    table.commit(*(row(f"a{n}", 1) for n in range(100)))
    table.commit(row("b", 1))
    log.refuse = lambda message: UNAVAILABLE if message.key.startswith(b"a") else None
    async with Running(relay_of(table, log)):
        await until(lambda: bool(log.taken), 3)
    assert log.taken[0] == ("b", 1)


async def test_a_broker_that_is_away_loses_nothing() -> None:
    table, log = Table(), Log()
    log.refuse = lambda message: BrokerUnavailableError("away")
    async with Running(relay_of(table, log)) as relay:
        for version in range(1, 4):
            table.commit(row("a", version))
            relay.accept("a", [row("a", version)], foreign=False)
        await asyncio.sleep(0.02)
        assert log.taken == []
        log.refuse = lambda message: None
        await settled(table)
    assert first_occurrences(log.taken) == {"a": [1, 2, 3]}


async def test_what_a_crash_left_is_found() -> None:
    table, log = Table(), Log()
    table.commit(row("a", 1), row("a", 2), row("b", 1))
    async with Running(relay_of(table, log)):
        await settled(table)
    assert first_occurrences(log.taken) == {"a": [1, 2], "b": [1]}


async def test_what_another_process_has_just_committed_is_left_to_it() -> None:
    table, log = Table(), Log()
    relay = relay_of(table, log)
    table.commit(row("a", 1))
    await relay.sweep_now()
    assert log.taken == [], "seen for the first time: its owner is about to send it"
    await relay.sweep_now()
    assert log.taken == [("a", 1)]


async def test_a_process_that_only_relays_sends_at_once() -> None:
    table, log = Table(), Log()
    table.commit(row("a", 1))
    await relay_of(table, log, owner=True).sweep_now()
    assert log.taken == [("a", 1)]


async def test_dying_between_publishing_and_marking_sends_again_the_same_bytes() -> None:
    table, log = Table(), Log()
    table.commit(row("a", 1), row("a", 2))

    async def never(places: Sequence[tuple[str, int]]) -> None:
        await asyncio.sleep(60)

    real, table.mark_sent = table.mark_sent, never  # type: ignore[method-assign]
    async with Running(relay_of(table, log, owner=True)):
        await until(lambda: len(log.taken) == 2, 2)
    table.mark_sent = real  # type: ignore[method-assign]
    async with Running(relay_of(table, log, owner=True)):
        await settled(table)
    assert log.taken == [("a", 1), ("a", 2), ("a", 1), ("a", 2)]


async def test_what_the_broker_refuses_for_good_goes_back_to_its_saga_before_it_is_given_up() -> None:
    table, log = Table(), Log()
    given: list[Item] = []
    log.refuse = lambda message: TOO_LARGE if message.value == b"2" else None
    async with Running(relay_of(table, log, given)) as relay:
        table.commit(row("a", 1), row("a", 2), row("a", 3))
        relay.accept("a", [row("a", 1), row("a", 2), row("a", 3)], foreign=False)
        await settled(table)
    assert log.taken == [("a", 1), ("a", 3)]
    (item,) = given
    assert isinstance(item, SagaInput)
    assert item.given == SendRefused(2, str(TOO_LARGE))


async def test_rows_beyond_the_limit_of_memory_go_by_way_of_the_table() -> None:
    table, log = Table(), Log()
    relay = relay_of(table, log, memory_rows_max=5)
    for version in range(1, 21):
        table.commit(row("a", version))
        relay.accept("a", [row("a", version)], foreign=False)
    assert relay.backlog_rows <= 6
    async with Running(relay):
        await settled(table)
    assert first_occurrences(log.taken) == {"a": list(range(1, 21))}


async def test_too_much_waiting_asks_intake_to_pause() -> None:
    relay = relay_of(Table(), Log(), backlog_rows_max=3)
    relay.accept("a", [row("a", 1), row("a", 2)], foreign=False)
    assert not relay.overloaded()
    relay.accept("b", [row("b", 1)], foreign=False)
    assert relay.overloaded()


async def test_stopping_sends_and_marks_what_is_in_memory() -> None:
    table, log = Table(), Log()
    relay, stopping, pulse = relay_of(table, log, mark_ms=1_000), Stopping(), Pulse("relay", 1_000)
    for version in range(1, 25):
        table.commit(row("a", version))
        relay.accept("a", [row("a", version)], foreign=False)
    stopping.ask()
    await relay.run(stopping, pulse)
    await relay.mark(stopping, pulse)
    assert len(log.taken) == 24
    assert table.unsent_rows == {}


@pytest.mark.parametrize("seed", range(40))
async def test_no_schedule_of_two_processes_crashes_and_refusals_reorders_or_loses(seed: int) -> None:
    """Two processes take turns owning sagas, brokers refuse, relays are killed anywhere; one log sees it all."""
    chance = random.Random(seed)
    table, log = Table(), Log()
    refusing = chance.choice([0.0, 0.05, 0.3])
    log.refuse = lambda message: UNAVAILABLE if chance.random() < refusing else None
    sagas = [f"s{n}" for n in range(6)]
    versions = dict.fromkeys(sagas, 0)
    owner: dict[str, int] = {}
    alive = [Running(relay_of(table, log, sweep_ms=4, memory_rows_max=chance.choice([3, 100]))) for _ in range(2)]
    for running in alive:
        await running.__aenter__()
    for _ in range(150):
        saga, process = chance.choice(sagas), chance.randrange(2)
        versions[saga] += 1
        new = row(saga, versions[saga])
        table.commit(new)
        alive[process].relay.accept(
            saga, [new], foreign=owner.get(saga, process if versions[saga] == 1 else -1) != process
        )
        owner[saga] = process
        if chance.random() < 0.04:
            await alive[process].__aexit__()
            alive[process] = Running(relay_of(table, log, sweep_ms=4))
            await alive[process].__aenter__()
            owner = {known: who for known, who in owner.items() if who != process}
        if chance.random() < 0.3:
            await asyncio.sleep(0)
    refusing = 0.0
    await settled(table)
    for running in alive:
        await running.__aexit__()
    assert first_occurrences(log.taken) == {
        saga: list(range(1, count + 1)) for saga, count in versions.items() if count
    }


async def test_a_refused_command_makes_its_place_stuck(database: Database, eyes: Eyes) -> None:
    """The whole way, on the real kernel and database: nothing waits for ever for an answer that cannot come."""
    async with at_desk(database.url) as desk:
        await desk.take(event(OrderPlaced(order_id="o-1")))
        (command,) = desk.commands()
        log = Log()
        log.refuse = lambda message: TOO_LARGE
        relay = Relay(
            desk.store, log, desk.coordinator.process, tenant="main", batch_rows=10, memory_rows_max=100,
            backlog_rows_max=50, mark_ms=5, sweep_ms=20, poll_ms=2, retry_ms=2, owner=True,
        )  # fmt: skip
        await relay.sweep_now()
        (head,) = await eyes.rows("SELECT stuck, waiting_for FROM saga_heads")
        assert head["stuck"] == 1
        assert "saga.stuck" in await eyes.stream(command.saga_id)
        assert await eyes.count("outbox_unsent") == 0
        assert relay.refused_rows == 1


async def test_a_message_over_the_limit_is_never_put_into_the_outbox(database: Database, eyes: Eyes) -> None:
    """The kernel checks bodies; what only the headers push over the limit is caught when it is encoded."""
    async with at_desk(database.url, message_bytes_max=1_400) as desk:
        await desk.take(event(OrderPlaced(order_id="o-1", note="x" * 880)))
        assert desk.commands() == []
        assert await eyes.count("outbox") == 0
        (head,) = await eyes.rows("SELECT stuck FROM saga_heads")
        assert head["stuck"] == 1


async def test_a_saga_folded_from_the_store_tells_the_relay(desk: Desk) -> None:
    await desk.take(event(OrderPlaced(order_id="o-1")))
    desk.coordinator.cache.clear()
    await desk.take(reply(desk.newest("inventory"), Reserved(hold="h")))
    assert [foreign for _, foreign in desk.foreign] == [False, True]
