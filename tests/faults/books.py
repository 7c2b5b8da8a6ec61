"""What must be true of orders afterwards, read from their streams and from the participants' own ledgers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import asyncpg

from orchestrator.store.chain import opened, verify
from orchestrator.store.contract import StoredRecord
from orchestrator.store.sql import load_queries

SQL = load_queries("tests", "ledgers.sql") | load_queries("tests.faults", "books.sql")


@dataclass(frozen=True, slots=True)
class Order:
    """One order as it ended: outcome and stream."""

    key: str
    phase: str
    records: list[StoredRecord]


class Books:
    """Reads as the owner of the tables; checks raise AssertionError naming the order."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection

    async def ended(self, keys: list[str]) -> int:
        """How many of these orders have ended."""
        return int(await self._connection.fetchval(SQL["ended"], keys))

    async def unfinished(self, keys: list[str]) -> str:
        """Those that have not, with where they are, for a failing test's message."""
        rows = await self._connection.fetch(SQL["unfinished"], keys)
        return "\n".join(str(dict(row)) for row in rows[:8])

    async def orders(self, keys: list[str]) -> list[Order]:
        """The streams of these orders. Every acknowledged start has exactly one (V1)."""
        heads = await self._connection.fetch(SQL["heads"], keys)
        found = Counter(head["business_key"] for head in heads)
        assert found == Counter(keys), f"not one saga per order: {(Counter(keys) - found) + (found - Counter(keys))}"
        streams: dict[str, list[StoredRecord]] = {head["saga_id"]: [] for head in heads}
        for row in await self._connection.fetch(SQL["records"], list(streams)):
            streams[row["saga_id"]].append(opened(row["saga_id"], row["version"], row["body"], row["hash"]))
        for head in heads:
            flaw = verify(streams[head["saga_id"]], head_version=head["version"], head_hash=head["hash"])
            assert flaw is None, f"order {head['business_key']}: {flaw}"
        return [Order(head["business_key"], head["phase"], streams[head["saga_id"]]) for head in heads]

    async def ledgers_balance(self) -> None:
        """Stock, money and parcels agree with themselves: no row that proves the contrary."""
        for name in ("prove_inventory", "prove_payments", "prove_shipping"):
            rows = await self._connection.fetch(SQL[name])
            assert not rows, f"{name}: {[dict(row) for row in rows[:5]]}"

    async def effects_match(self, orders: list[Order]) -> None:
        """Each order holds and has paid exactly what its outcome says: all once, or nothing at all (V6)."""
        effects = {row["order_id"]: dict(row) for row in await self._connection.fetch(SQL["per_order"])}
        for order in orders:
            left = effects.get(order.key, {"held": 0, "paid": 0, "handed_over": 0, "standing": 0})
            if order.phase == "completed":
                expected = {"held": 1, "paid": 12, "handed_over": 1, "standing": 1}
            else:
                expected = {"held": 0, "paid": 0, "handed_over": 0, "standing": 0}
            actual = {name: int(left[name]) for name in expected}
            assert actual == expected, f"order {order.key} is {order.phase}, but the ledgers say {actual}"
