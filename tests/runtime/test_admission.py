"""The door for starts: what it compares, what it counts between two looks, and what it does while nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from orchestrator.runtime.admission import RETRY_SECONDS_MAX, Admission, AdmissionLimits, TooMuchError
from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.store.contract import StoreUnavailableError
from orchestrator.store.load import Load, LoadQueries
from orchestrator.store.postgres import PostgresStore
from tests.databases import Database
from tests.runtime.desk import Desk, Eyes, event
from tests.runtime.shop import CaseOpened, OrderPlaced

NO_LIMITS = AdmissionLimits(0, 0, 0, 0, 0, 0)


class Door:
    """An admission whose surroundings a test sets by hand."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self.load = Load()
        self.acts = self.rows = 0
        self.away = False
        self.looked = asyncio.Event()
        self.admission = Admission(
            limits, self._look, acts_waiting=lambda: self.acts, rows_waiting=lambda: self.rows, sample_ms=1
        )

    async def _look(self) -> Load:
        self.looked.set()
        if self.away:
            raise StoreUnavailableError("the database is away")
        return self.load

    async def look(self) -> Pulse:
        """Lets the loop come round at least once."""
        stopping, pulse = Stopping(), Pulse("admission", 1_000)
        running = asyncio.create_task(self.admission.run(stopping, pulse))
        self.looked.clear()
        await self.looked.wait()
        stopping.ask()
        await running
        return pulse

    def refusal(self) -> TooMuchError | None:
        """What the door says to one start."""
        try:
            with self.admission.start():
                return None
        except TooMuchError as error:
            return error


def _set_load(**values: int) -> Callable[[Door], None]:
    return lambda door: setattr(door, "load", Load(**values))


@pytest.mark.parametrize(
    ("signal", "limits", "fill"),
    [
        ("acts", AdmissionLimits(0, 5, 0, 0, 0, 0), lambda door: setattr(door, "acts", 5)),
        ("unsent_rows", AdmissionLimits(0, 0, 5, 0, 0, 0), _set_load(unsent_rows=5)),
        ("unsent_rows", AdmissionLimits(0, 0, 5, 0, 0, 0), lambda door: setattr(door, "rows", 5)),
        ("open_commands", AdmissionLimits(0, 0, 0, 5, 0, 0), _set_load(open_commands=5)),
        ("live_sagas", AdmissionLimits(0, 0, 0, 0, 5, 0), _set_load(live_sagas=5)),
        ("intake_behind_ms", AdmissionLimits(0, 0, 0, 0, 0, 5), _set_load(intake_behind_ms=5)),
    ],
)
async def test_each_signal_alone_closes_the_door(
    signal: str, limits: AdmissionLimits, fill: Callable[[Door], None]
) -> None:
    """At its limit, and not before; the refusal says what is full."""
    door = Door(limits)
    await door.look()
    assert door.refusal() is None
    fill(door)
    await door.look()
    refusal = door.refusal()
    assert refusal is not None
    assert (refusal.signal, refusal.limit) == (signal, 5)
    assert refusal.level >= 5
    assert 1 <= refusal.retry_seconds <= RETRY_SECONDS_MAX
    assert door.admission.facts()[f"starts_refused_{signal}"] == 1


async def test_without_limits_the_door_is_open() -> None:
    """0 is no limit, whatever the load."""
    door = Door(NO_LIMITS)
    door.acts = door.rows = 10**9
    door.load = Load(10**9, 10**9, 10**9, 10**9)
    await door.look()
    assert door.refusal() is None


async def test_starts_under_way_are_counted_until_they_end_however_they_end() -> None:
    """Also those that fail."""
    door = Door(AdmissionLimits(2, 0, 0, 0, 0, 0))
    with door.admission.start(), door.admission.start():
        refusal = door.refusal()
        assert refusal is not None
        assert refusal.signal == "requests"
    with pytest.raises(ZeroDivisionError), door.admission.start():
        raise ZeroDivisionError
    assert door.admission.under_way == 0
    assert door.refusal() is None


async def test_a_burst_between_two_looks_is_counted() -> None:
    """Without that, everything that comes within one interval would be let in."""
    door = Door(AdmissionLimits(0, 0, 0, 10, 0, 0))
    door.load = Load(open_commands=6)
    await door.look()
    assert [door.refusal() is None for _ in range(6)] == [True] * 4 + [False] * 2
    await door.look()  # they have all been answered meanwhile
    assert door.refusal() is None


async def test_while_the_database_is_away_the_count_goes_on() -> None:
    """The last numbers are the best there are; the loop says what is wrong, and lives."""
    door = Door(AdmissionLimits(0, 0, 0, 10, 0, 0))
    door.load = Load(open_commands=8)
    await door.look()
    door.away = True
    assert door.refusal() is None
    pulse = await door.look()
    assert "the database is away" in pulse.detail
    assert [door.refusal() is None for _ in range(3)] == [True, False, False]


async def test_the_fuller_the_later() -> None:
    """And not all at the same moment."""
    door = Door(AdmissionLimits(0, 0, 0, 10, 0, 0))
    door.load = Load(open_commands=10)
    await door.look()
    few = {refusal.retry_seconds for _ in range(100) if (refusal := door.refusal())}
    door.load = Load(open_commands=100)
    await door.look()
    many = {refusal.retry_seconds for _ in range(100) if (refusal := door.refusal())}
    assert max(few) < min(many)
    assert len(few) > 1


async def test_the_load_is_what_the_tables_hold(desk: Desk, database: Database, eyes: Eyes) -> None:
    """Commands without an answer, unsent messages, live sagas; a task that waits for a person is no command."""
    await desk.take(
        event(OrderPlaced(order_id="o-1")), event(OrderPlaced(order_id="o-2")), event(CaseOpened(case_id="c"))
    )
    await eyes.rows("INSERT INTO positions VALUES ('g', 't', 0, 5, clock_us() - 7000000, 0), ('g', 't', 1, 5, 0, 0)")
    async with PostgresStore(database.url) as store:
        queries = LoadQueries(store.pools)
        load = await queries.load("g", ["t"], unsent_max=100, commands_max=100, live_max=100)
        assert (load.unsent_rows, load.open_commands, load.live_sagas) == (2, 2, 3)
        assert 7_000 <= load.intake_behind_ms < 60_000
        bounded = await queries.load("g", ["other"], unsent_max=1, commands_max=1, live_max=0)
        assert (bounded.unsent_rows, bounded.open_commands, bounded.live_sagas) == (1, 1, 0)
        assert bounded.intake_behind_ms == 0
