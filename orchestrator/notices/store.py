"""The tables of notices: rows are planned with the reader's position in one transaction, claimed, and settled.

Rules of this file
- Instants are microseconds of the database's clock. No two machines' clocks are compared.
- Connections are those of readers: a burst of notices must not take the relay's.
- A claim is a lease with a number (`attempts`): who was too slow, or died, changes nothing of what the next one did.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import orjson

from orchestrator.notices.contract import Channel, Kind
from orchestrator.notices.plan import Beside, voters_before
from orchestrator.notices.preferences import PreferenceError, Preferences
from orchestrator.notices.texts import Told
from orchestrator.store.columns import storable
from orchestrator.store.connections import Pools
from orchestrator.store.contract import StoredRecord
from orchestrator.store.reading import stored_record
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.notices", "notices.sql")
READER = "notices"
DIGEST_ROWS_MAX = 500
TRIM_ROWS_MAX = 1_000

State = Literal["waiting", "sent", "skipped", "failed"]


@dataclass(frozen=True, slots=True)
class Contact:
    """Where and how somebody wants to be told on one channel. address "": that which the settings give to everybody."""

    tenant: str
    who: str
    channel: Channel
    address: str
    wishes: Preferences


@dataclass(frozen=True, slots=True)
class Row:
    """A notice to be kept. due: not before this instant. task_due: when the task must be decided, 0 for never."""

    planned_at: int
    due: int
    task_due: int
    version: int
    tenant: str
    saga_id: str
    activity: str
    kind: Kind
    who: str
    channel: Channel
    digest: str
    address: str
    language: str
    zone: str
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Claimed:
    """A row that this process may send now. closed: how its task was closed, "" while it is open, "gone" without one.

    barred: its recipient may not decide the task (any more). now: when it was claimed.
    """

    told: Told
    attempts: int
    digest: str
    closed: str
    barred: bool
    now: int


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a claimed row. waiting: again after delay_us; given_back: this attempt does not count."""

    id: int
    attempts: int
    state: State
    reason: str = ""
    delay_us: int = 0
    given_back: bool = False


class NoticeStore:
    """What planner and sender ask. Methods raise StoreError."""

    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    # --- planning -----------------------------------------------------------------------------------------------------

    async def position(self) -> int | None:
        """Up to which global position records were looked at; None before the first start."""
        async with self._pools.connection("read") as connection:
            rows = await connection.fetch(SQL["position"], READER)
        return int(rows[0]["position"]) if rows else None

    async def begin(self) -> int:
        """The first start: all records that have a position now count as looked at. Gives the position."""
        async with self._pools.connection("read") as connection:
            await connection.execute(SQL["begin_here"], READER)
            return int((await connection.fetchrow(SQL["position"], READER))["position"])

    async def plan(self, before: int, after: int, rows: Sequence[Row]) -> bool:
        """Keeps rows and moves the position from `before` to `after`, both or nothing. False: another was faster."""
        columns = _columns(rows)
        async with self._pools.connection("read") as connection:
            await connection.begin()
            try:
                moved = await connection.execute(SQL["move_on"], READER, before, after)
                if moved and rows:
                    await connection.execute(SQL["plan"], *columns)
            except BaseException:
                await connection.roll_back()
                raise
            await connection.commit_repeatable()
        return bool(moved)

    async def now(self) -> int:
        """The database's clock."""
        async with self._pools.connection("read") as connection:
            return int((await connection.fetchrow(SQL["now"]))["now"])

    async def beside(self, records: Sequence[StoredRecord]) -> dict[tuple[str, int], Beside]:
        """What is known beside each of these records, by saga id and version."""
        sagas = list({record.saga_id for record in records})
        tasks = list({(record.saga_id, record.activity) for record in records})
        async with self._pools.connection("read") as connection:
            heads = {row["saga_id"]: row for row in await connection.fetch(SQL["sagas_beside"], sagas)}
            columns = [[task[place] for task in tasks] for place in range(2)]
            found = await connection.fetch(SQL["tasks_beside"], *columns)
            rows = {(row["saga_id"], row["activity"]): row for row in found}
            voters = {}
            for record in records:
                if record.type == "task.amended":
                    before = await connection.fetch(SQL["records_before"], record.saga_id, record.version)
                    voters[record.saga_id, record.version] = voters_before(map(stored_record, before), record.activity)
        beside = {}
        for record in records:
            head, task = heads.get(record.saga_id), rows.get((record.saga_id, record.activity))
            beside[record.saga_id, record.version] = Beside(
                saga=head["name"] if head else "",
                business_key=head["business_key"] if head else "",
                started_by=orjson.loads(head["first"])["actor"] if head and head["first"] else "",
                task=orjson.loads(task["data"]) if task else {},
                due=task["due"] if task else 0,
                is_open=bool(task and task["is_open"]),
                voters=voters.get((record.saga_id, record.version), ()),
            )
        return beside

    async def contacts(self, wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], list[Contact]]:
        """What the address book has of (tenant, who)."""
        names = list(dict.fromkeys(wanted))
        columns = [[name[place] for name in names] for place in range(2)]
        found: dict[tuple[str, str], list[Contact]] = {}
        async with self._pools.connection("read") as connection:
            for row in await connection.fetch(SQL["contacts_of"], *columns):
                wishes = _wishes(row)
                contact = Contact(row["tenant"], row["who"], cast("Channel", row["channel"]), row["address"], wishes)
                found.setdefault((contact.tenant, contact.who), []).append(contact)
        return found

    async def known(self, wanted: Iterable[tuple[str, str]]) -> frozenset[tuple[str, str]]:
        """Those among (tenant, who) who are people that are known here."""
        people = list(dict.fromkeys((tenant, who[7:]) for tenant, who in wanted if who.startswith("person:")))
        if not people:
            return frozenset()
        columns = [[one[place] for one in people] for place in range(2)]
        async with self._pools.connection("read") as connection:
            rows = await connection.fetch(SQL["known_of"], *columns)
        return frozenset((row["tenant"], f"person:{row['person']}") for row in rows)

    async def substitutes(self, wanted: Iterable[tuple[str, str]]) -> dict[str, dict[str, list[str]]]:
        """Who stands in now for the people among (tenant, who): by tenant and person, ids."""
        people = list(dict.fromkeys((tenant, who[7:]) for tenant, who in wanted if who.startswith("person:")))
        found: dict[str, dict[str, list[str]]] = {}
        if people:
            columns = [[one[place] for one in people] for place in range(2)]
            async with self._pools.connection("read") as connection:
                for row in await connection.fetch(SQL["substitutes_of"], *columns):
                    found.setdefault(row["tenant"], {}).setdefault(row["person"], []).append(row["substitute"])
        return found

    # --- sending ------------------------------------------------------------------------------------------------------

    async def claim(self, limit: int, lease_us: int, channels: Iterable[str]) -> list[Claimed]:
        """Rows that are due, for lease_us; of a digest all that belongs to it."""
        async with self._pools.connection("read") as connection:
            rows = await connection.fetch(SQL["claim"], limit, lease_us, list(channels), DIGEST_ROWS_MAX)
        return [_claimed(row) for row in rows]

    async def settle(self, settled: Sequence[Settled]) -> int:
        """Writes what became of rows; how many of the claims still held."""
        if not settled:
            return 0
        columns = [
            [item.id for item in settled],
            [item.attempts for item in settled],
            [item.state for item in settled],
            [storable(item.reason) for item in settled],  # it may quote what a server said
            [item.delay_us for item in settled],
            [int(item.given_back) for item in settled],
        ]
        async with self._pools.connection("read") as connection:
            return await connection.execute(SQL["settle"], *columns)

    async def trim(self, older_us: int) -> int:
        """Deletes rows that were closed longer ago than this; how many."""
        async with self._pools.connection("read") as connection:
            return await connection.execute(SQL["trim"], older_us, TRIM_ROWS_MAX)


def _wishes(row: Any) -> Preferences:
    """As they were chosen; by UTC where this host does not know the zone, which others may."""
    wished = {name: row[name] for name in Preferences.__slots__}
    try:
        return Preferences(**wished)
    except PreferenceError:
        return Preferences(**{**wished, "zone": "UTC"})


def _columns(rows: Sequence[Row]) -> list[list[Any]]:
    names = [name for name in Row.__slots__ if name != "facts"]
    return [*([getattr(row, name) for row in rows] for name in names), [orjson.dumps(dict(row.facts)) for row in rows]]


def _claimed(row: Any) -> Claimed:
    told = Told(
        id=row["id"],
        tenant=row["tenant"],
        saga_id=row["saga_id"],
        version=row["version"],
        activity=row["activity"],
        kind=cast("Kind", row["kind"]),
        who=row["who"],
        channel=cast("Channel", row["channel"]),
        address=row["address"],
        planned_at=row["planned_at"],
        due=row["due"],
        language=row["language"],
        zone=row["zone"],
        facts=orjson.loads(row["facts"]),
    )
    return Claimed(told, row["attempts"], row["digest"], row["closed"], row["barred"], row["now"])
