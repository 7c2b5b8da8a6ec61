"""Every change, deletion, insertion and swap of one row, and every truncation, of a log of 200 records is found and
named: by `audit verify`, and where it shows in an export, by the verifier that stands alone."""

from __future__ import annotations

import functools
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from orchestrator.evidence import verifier
from orchestrator.evidence.exporting import log_lines
from orchestrator.evidence.findings import Report
from orchestrator.evidence.notes import Checkpoint
from orchestrator.evidence.sealing import Sealer
from orchestrator.evidence.verifying import Verification
from orchestrator.store.contract import NewRecord
from orchestrator.store.postgres import PostgresStore
from tests.contracts.stores import append, start, written
from tests.databases import Database, DatabaseServer
from tests.evidence.logs import ring, signer
from tests.evidence.tampering import (
    Tampering,
    Vandal,
    of_checkpoint,
    of_head,
    of_order,
    of_record,
    of_tile,
    vandal,
)

# The suite tries every kind on every twentieth record, others for each kind; the proof tries all on all.
EXHAUSTIVE = os.environ.get("HYPOTHESIS_PROFILE") == "proof"
EVERY = 1 if EXHAUSTIVE else 20

ALONE: Any = verifier  # a program without types

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Log:
    """A sealed log, who spoils it, and what was published of it."""

    store: PostgresStore
    vandal: Vandal
    published: list[str]
    directory: Path
    export: bytes = b""

    async def verify(self) -> Report:
        """With what was published."""
        return await Verification(self.store, ring(), published=[("published", self.published)]).run()

    async def exported(self) -> bytes:
        """The log as a file."""
        return b"".join([part async for part in log_lines(self.store)])

    def alone(self, export: bytes) -> list[str]:
        """What the stand-alone verifier says of an export."""
        file = self.directory / "log.jsonl"
        file.write_bytes(export)
        found: list[str] = []
        try:
            ALONE.log(file, self.published, [ALONE.key_of(signer().verifier.vkey)], found.append)
        except (ValueError, LookupError, TypeError) as error:
            found.append(str(error))
        return found

    async def check(self, tampering: Tampering) -> None:
        """It is found, the right place is named, and both verifiers agree."""
        async with self.vandal.doing(tampering):
            report = await self.verify()
            told = "\n".join(report.lines())
            assert not report.is_good, f"{tampering.name} was not found: {tampering.sql}"
            assert all(word in told for word in tampering.named), f"{tampering.name} {tampering.named}: {told}"
            export = await self.exported()
            # What does not show in an export is good there, as the log itself is: that was asked once.
            assert export == self.export or self.alone(export), f"{tampering.name}: {told}"

    async def rows(self, query: str) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self.vandal.connection.fetch(query)
        return found


async def write_log(store: PostgresStore, records: int, checkpoints: int) -> list[str]:
    """A log of sagas that say their name and key at their start, sealed now and then."""
    sealer, left, turn = Sealer(store, ring(), records_max=10_000), records, 0
    notes: list[str] = []
    sagas = [start(f"K-{number}") for number in range(6)]
    versions = [0] * len(sagas)
    while left:
        appends = []
        for at, saga in enumerate(sagas):
            count = min((turn + at) % 3, left)
            if count:
                kinds = ["saga.started" if versions[at] + n == 0 else f"step.{n}" for n in range(count)]
                told = {"name": saga.name, "business_key": saga.business_key, "round": 1}
                new = [NewRecord(kind, "hold", told, "system", "cause") for kind in kinds]
                appends.append(append(saga, versions[at], records=new))
                versions[at] += count
                left -= count
        turn += 1
        await written(store, *appends)
        if left <= records - (len(notes) + 1) * records // checkpoints:
            made = await sealer.seal()
            assert made is not None
            notes.append(made.note)
    return notes


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def log(database_server: DatabaseServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Log]:
    """200 records, four checkpoints, all of them published."""
    async with (
        database_server.database() as database,
        PostgresStore(database.url) as store,
    ):
        notes = await write_log(store, 200, 4)
        async with vandal(database) as spoiling:
            made = Log(store, spoiling, notes, tmp_path_factory.mktemp("export"))
            made.export = await made.exported()
            yield made


@pytest.fixture(scope="module", autouse=True)
def signatures_once() -> Iterator[None]:
    """The same four signatures are asked for thousands of times: the slow arithmetic is done once for each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verifier, "is_signed", functools.cache(verifier.is_signed))
        yield


async def test_the_log_itself_is_good(log: Log) -> None:
    """Else nothing below would mean anything."""
    report = await log.verify()
    assert (report.findings, report.records, report.checkpoints, report.published) == ([], 200, 4, 4)
    assert log.alone(log.export) == []


async def test_every_record(log: Log) -> None:
    """Changed in each column, rewritten with its hash, deleted, doubled, swapped."""
    rows = await log.rows(
        "SELECT r.*, s.first_position + (r.seq - s.first_seq) AS position FROM records r "
        "JOIN feed_sealed s ON r.seq BETWEEN s.first_seq AND s.last_seq ORDER BY position"
    )
    assert len(rows) == 200
    tried: set[str] = set()
    for at, row in enumerate(rows):
        after = rows[at + 1] if at + 1 < len(rows) else None
        for kind, tampering in enumerate(of_record(at + 1, row, after)):
            if (at + kind) % EVERY == 0 or after is None:
                await log.check(tampering)
                tried.add(tampering.name)
    assert len(tried) == 12


async def test_every_row_of_the_order(log: Log) -> None:
    """Which positions a batch has cannot be changed unseen."""
    rows = await log.rows("SELECT * FROM feed_sealed ORDER BY first_position")
    for at, row in enumerate(rows):
        for kind, tampering in enumerate(of_order(row, rows[at + 1] if at + 1 < len(rows) else None)):
            if EXHAUSTIVE or (at + kind) % 4 == 0 or at + 1 == len(rows):
                await log.check(tampering)
    last = rows[-1]
    more = f"INSERT INTO feed_sealed VALUES (201, {last['first_seq'] + (1 << 30)}, {last['first_seq'] + (1 << 30) + 4})"
    await log.check(Tampering("added", (more,), ("positions 201 to 205 have no records",)))


async def test_every_head_and_checkpoint(log: Log) -> None:
    """Each column that says something of the log; notes that another key, or ours over something else, signed."""
    for row in await log.rows("SELECT * FROM saga_heads"):
        for tampering in of_head(row):
            await log.check(tampering)
    forged = signer(9).sign(Checkpoint(signer().name, 50, bytes(32), 1, 0).text)
    rows = await log.rows("SELECT * FROM log_checkpoints ORDER BY number")
    for at, row in enumerate(rows):
        for tampering in of_checkpoint(row, rows[at + 1] if at + 1 < len(rows) else None, forged):
            await log.check(tampering)


async def test_every_truncation(log: Log) -> None:
    """Whole and clean, as a restored backup: records, order, heads and checkpoints. Only what was published knows."""
    rows = await log.rows("SELECT * FROM feed_sealed ORDER BY first_position")
    for row in rows[:: 1 if EXHAUSTIVE else 3]:
        kept, stays = row["first_position"] - 1, f"seq < {row['first_seq']}"
        statements = [
            f"DELETE FROM records_stored WHERE NOT {stays}",
            f"DELETE FROM feed_sealed WHERE first_position > {kept}",
            "UPDATE saga_heads h SET (version, hash, recorded_at) = (SELECT r.version, r.hash, "
            "(convert_from(r.body, 'UTF8')::jsonb ->> 'recorded_at')::bigint FROM backup_records_stored r "
            f"WHERE r.saga_id = h.saga_id AND {stays} ORDER BY version DESC LIMIT 1) "
            f"WHERE EXISTS (SELECT FROM backup_records_stored r WHERE r.saga_id = h.saga_id AND {stays})",
            "DELETE FROM saga_heads h "
            f"WHERE NOT EXISTS (SELECT FROM backup_records_stored r WHERE r.saga_id = h.saga_id AND {stays})",
            f"DELETE FROM log_checkpoints WHERE size > {kept}",
        ]
        if not kept:
            del statements[2]
        elif not await log.rows(
            f"SELECT FROM saga_heads WHERE saga_id NOT IN (SELECT saga_id FROM records_stored WHERE {stays})"
        ):
            del statements[3]
        named = f"the log ends at {kept}: positions {kept + 1} to 200 are missing"
        await log.check(Tampering(f"truncated to {kept}", tuple(statements), (named,)))


async def test_every_tile(database_server: DatabaseServer, tmp_path: Path) -> None:
    """300 records fill a tile; which is right when they differ, the signed root says."""
    async with database_server.database() as database, PostgresStore(database.url) as store:
        notes = await write_log(store, 300, 2)
        async with vandal(database) as spoiling:
            log = Log(store, spoiling, notes, tmp_path)
            log.export = await log.exported()
            for tampering in of_tile(0, 0):
                await log.check(tampering)


async def test_the_application_cannot_rewrite(database: Database) -> None:
    """The product's own role may add to these tables, and neither change nor remove a row."""
    connection = await asyncpg.connect(database.url)
    try:
        for table in ("records", "records_stored", "feed_sealed", "log_tiles", "log_checkpoints", "log_breaks"):
            for statement in (f"DELETE FROM {table}", f"TRUNCATE {table}", f"DROP TABLE {table}",
                              f"ALTER TABLE {table} DISABLE TRIGGER ALL"):  # fmt: skip
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.execute(statement)
        for table, column in (
            ("records", "body"), ("records_stored", "hash"), ("feed_sealed", "last_seq"), ("log_tiles", "hashes"),
            ("log_checkpoints", "note"), ("log_breaks", "reason"),
        ):  # fmt: skip
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"UPDATE {table} SET {column} = {column}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("SET session_replication_role = replica")
    finally:
        await connection.close()
