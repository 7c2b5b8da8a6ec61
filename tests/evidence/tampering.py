"""Every way to change one row of the tables that the proof stands on, and undoing it again.

What is done here is done by a superuser with triggers off, as nothing inside the database can hinder.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from tests.databases import Database

TABLES = {  # and their keys
    "records_stored": "saga_id, version",
    "feed_sealed": "first_position",
    "saga_heads": "saga_id",
    "log_checkpoints": "number",
    "log_tiles": "level, number",
}


@dataclass(frozen=True)
class Tampering:
    """What is done, and what one of the findings must say."""

    name: str
    sql: tuple[str, ...]
    named: tuple[str, ...]


class Vandal:
    """A superuser's connection that puts everything back."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def remember(self) -> None:
        """What is now is what is put back."""
        for table in TABLES:
            await self.connection.execute(f"CREATE TABLE backup_{table} AS TABLE {table}")

    @asynccontextmanager
    async def doing(self, tampering: Tampering) -> AsyncIterator[None]:
        """Inside, it is done; afterwards everything is as it was."""
        touched = [table for table in TABLES if any(table in statement for statement in tampering.sql)]
        async with self.connection.transaction():
            own = await self.connection.fetchval("SELECT pg_current_xact_id()::xid::text")
            for statement in tampering.sql:
                status = await self.connection.execute(statement)
                assert not status.endswith(" 0"), f"{tampering.name}: {statement} changes nothing"
        try:
            yield
        finally:
            async with self.connection.transaction():
                for table in touched:
                    key = TABLES[table]
                    await self.connection.execute(f"DELETE FROM {table} WHERE xmin::text = '{own}'")
                    await self.connection.execute(
                        f"INSERT INTO {table} SELECT * FROM backup_{table} "
                        f"WHERE ({key}) NOT IN (SELECT {key} FROM {table})"
                    )


@asynccontextmanager
async def vandal(database: Database) -> AsyncIterator[Vandal]:
    """Triggers and foreign keys are off for whoever this is."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        await connection.execute("SET session_replication_role = replica")
        made = Vandal(connection)
        await made.remember()
        yield made
    finally:
        await connection.close()


def of_record(position: int, row: Any, after: Any | None) -> Iterator[Tampering]:
    """One record: its columns, its bytes with and without a fitting hash, gone, doubled, swapped with the next one."""
    saga, version, seq = row["saga_id"], row["version"], row["seq"]
    this = f"saga_id = '{saga}' AND version = {version}"
    here = f"saga {saga}, record {version}"
    at = f"position {position}"
    change = f"UPDATE records_stored SET {{}} WHERE {this}"
    yield Tampering("body", (change.format("body = set_byte(body, 30, get_byte(body, 30) # 1)"),), (at, here))
    yield Tampering("hash", (change.format("hash = set_byte(hash, 7, get_byte(hash, 7) # 1)"),), (at, here))
    canonical = "convert_to(replace(convert_from(body, 'UTF8'), '\"round\":1', '\"round\":2'), 'UTF8')"
    yield Tampering("rewritten", (change.format(f"body = {canonical}, hash = sha256({canonical})"),), (saga,))
    yield Tampering("seq", (change.format("seq = seq + (1::bigint << 40)"),), (f"{at} has no record",))
    yield Tampering("saga", (change.format("saga_id = saga_id || 'x'"),), (at, f"saga {saga}x, record {version}"))
    yield Tampering("version", (change.format("version = version + 1000"),), (at, f"record {version + 1000}"))
    yield Tampering("tenant", (change.format("tenant = 'other'"),), (at, here, "tenant"))
    yield Tampering("deleted", (f"DELETE FROM records_stored WHERE {this}",), (f"{at} has no record",))
    copy = (
        "INSERT INTO records_stored SELECT {}, version + 1000, saga_id, tenant, hash, body FROM records_stored WHERE "
    )
    yield Tampering("inserted", (copy.format("seq") + this,), (f"record {version + 1000}",))
    yield Tampering("stray", (copy.format("seq + (1::bigint << 40)") + this,), (f"record {version + 1000}",))
    if after is not None:
        pair = f"seq IN ({seq}, {after['seq']})"
        swap = (
            "UPDATE records_stored r SET body = o.body, hash = o.hash FROM records_stored o "
            f"WHERE r.{pair} AND o.{pair} AND r.seq <> o.seq"
        )
        yield Tampering("swapped", (swap,), (at,))
        order = f"UPDATE records_stored SET seq = {seq} + {after['seq']} - seq WHERE {pair}"
        yield Tampering("order swapped", (order,), ("root",) if saga != after["saga_id"] else (at,))


def of_order(row: Any, after: Any | None) -> Iterator[Tampering]:
    """One row of the order table."""
    first = row["first_position"]
    this = f"WHERE first_position = {first}"
    for column, change in (("first_position", "+ 100000"), ("first_seq", "+ 1"), ("first_seq", "+ (1::bigint << 40)")):
        yield Tampering(
            f"{column} {change}", (f"UPDATE feed_sealed SET {column} = {column} {change} {this}",), ("positi",)
        )
    for change in ("+ 1", "- 1"):
        yield Tampering(
            f"last_seq {change}", (f"UPDATE feed_sealed SET last_seq = last_seq {change} {this}",), ("positi",)
        )
    yield Tampering("order deleted", (f"DELETE FROM feed_sealed {this}",), ("",))
    if after is not None:
        pair = f"first_position IN ({first}, {after['first_position']})"
        one, two = "first_seq + (1::bigint << 50)", "last_seq + (1::bigint << 50)"
        swap = (
            f"UPDATE feed_sealed SET first_seq = {one}, last_seq = {two} WHERE {pair}",
            "UPDATE feed_sealed f SET first_seq = b.first_seq, last_seq = b.last_seq FROM backup_feed_sealed b "
            f"WHERE f.{pair} AND b.{pair} AND b.first_position <> f.first_position",
        )
        yield Tampering("order swapped", swap, ("",))


def of_head(row: Any) -> Iterator[Tampering]:
    """One head: what it says of its stream, gone, doubled."""
    saga = row["saga_id"]
    for name, change in (
        ("version", "version + 1"), ("version", "version - 1"), ("hash", "sha256(hash)"), ("tenant", "'other'"),
        ("name", "'other'"), ("business_key", "'other'"), ("recorded_at", "recorded_at + 1"),
        ("saga_id", "saga_id || 'x'"),
    ):  # fmt: skip
        yield Tampering(name, (f"UPDATE saga_heads SET {name} = {change} WHERE saga_id = '{saga}'",), (f"saga {saga}",))
    yield Tampering("head deleted", (f"DELETE FROM saga_heads WHERE saga_id = '{saga}'",), (f"saga {saga}",))
    copy = (
        "INSERT INTO saga_heads (saga_id, tenant, name, business_key, version, hash, recorded_at) "
        "SELECT saga_id || 'y', tenant, name, business_key, version, hash, recorded_at FROM saga_heads "
        f"WHERE saga_id = '{saga}'"
    )
    yield Tampering("head inserted", (copy,), (f"saga {saga}y, head",))


def of_checkpoint(row: Any, after: Any | None, forged: str) -> Iterator[Tampering]:
    """One checkpoint: each column, its note, gone, doubled, swapped."""
    number = row["number"]
    this = f"WHERE number = {number}"
    for name, change in (
        ("number", "number + 1000"), ("size", "size + 1"), ("signed_at", "signed_at + 1"), ("root", "sha256(root)"),
        ("note", "replace(note, 'checkpoint', 'checkpeint')"), ("note", f"$note${forged}$note$"), ("note", "''"),
    ):  # fmt: skip
        yield Tampering(name, (f"UPDATE log_checkpoints SET {name} = {change} {this}",), (f"checkpoint {number}",))
    yield Tampering("deleted", (f"DELETE FROM log_checkpoints {this}",), (f"checkpoint {number}",))
    copy = f"INSERT INTO log_checkpoints SELECT number + 500, size, signed_at, root, note FROM log_checkpoints {this}"
    yield Tampering("inserted", (copy,), (f"{number + 500}",))
    if after is not None:
        pair = f"number IN ({number}, {after['number']})"
        swap = (
            "UPDATE log_checkpoints c SET note = o.note FROM log_checkpoints o "
            f"WHERE c.{pair} AND o.{pair} AND c.number <> o.number"
        )
        yield Tampering("swapped", (swap,), (f"checkpoint {number}",))


def of_tile(level: int, number: int) -> Iterator[Tampering]:
    """One tile: its root, some of its hashes, its place, gone, doubled."""
    this = f"WHERE level = {level} AND number = {number}"
    named = f"tile {number} of level {level}"
    for at in range(0, 8192, 331):
        flip = f"UPDATE log_tiles SET hashes = set_byte(hashes, {at}, get_byte(hashes, {at}) # 1) {this}"
        yield Tampering(f"hashes {at}", (flip,), (named, f"position {at // 32 + 1}"))
    yield Tampering("root", (f"UPDATE log_tiles SET root = sha256(root) {this}",), (named, "root"))
    yield Tampering("moved", (f"UPDATE log_tiles SET number = number + 5 {this}",), (named, "missing"))
    yield Tampering("raised", (f"UPDATE log_tiles SET level = level + 3 {this}",), (named, "missing"))
    yield Tampering("gone", (f"DELETE FROM log_tiles {this}",), (named, "missing"))
    copy = f"INSERT INTO log_tiles SELECT level + 1, number, root, hashes FROM log_tiles {this}"
    yield Tampering("added", (copy,), (f"tile {number} of level {level + 1} is there",))
