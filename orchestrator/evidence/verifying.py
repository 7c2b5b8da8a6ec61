"""`audit verify`: everything that the proof stands on, read once, compared with itself and with what was published.

Rules of this file
- Records are streamed in global order, some thousand at a time: memory does not grow with the log.
- Every table is judged by another one: records by their bytes, their predecessor, the tree and signed roots; the order
  by being without gap; heads by their streams; tiles by the records; checkpoints by keys and by each other.
- It does not stop at the first flaw: it tells all it finds, the first place first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import orjson

from orchestrator.evidence import tree
from orchestrator.evidence.checkpoints import Checkpoints
from orchestrator.evidence.findings import Finding, Report
from orchestrator.evidence.keys import KeyRing
from orchestrator.evidence.nodes import TILE_HASHES, TILE_LEVELS, Growing, MissingNodesError, Nodes, Tile
from orchestrator.evidence.notes import Checkpoint
from orchestrator.evidence.reading import Evidence
from orchestrator.evidence.tree import HASH_BYTES
from orchestrator.store.chain import stored_flaw
from orchestrator.store.postgres import PostgresStore
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.evidence", "verify.sql")

RECORDS_PER_PAGE = 2_000
HEADS_PER_PAGE = 500
KEYS_PER_PAGE = 10_000
TILES_AT_ONCE = 32
SEQS_PER_BATCH = 1 << 20
ROLE = "work"  # plans by index, whatever the statistics say

Progress = Callable[[int, int], None]


class Verification:
    """One run over a store. `ring`: the keys that one trusts. `published`: notes from outside, each with its source."""

    def __init__(
        self,
        store: PostgresStore,
        ring: KeyRing,
        *,
        published: Sequence[tuple[str, Iterable[str]]] = (),
        on_progress: Progress | None = None,
    ) -> None:
        self.report = Report()
        self._store = store
        self._evidence = Evidence(store.pools, ROLE)
        self._checkpoints = Checkpoints(ring, self.report)
        self._published = published
        self._on_progress = on_progress
        self._growing: Growing | None = Growing()  # None: a record is missing, so nothing behind it can be in the tree
        self._tiles: dict[tuple[int, int], Any] = {}  # the next ones, read ahead
        self._suspects: list[Finding] = []  # leaves that differ from their tile: which is right, the next root says

    async def run(self, since: int = 1) -> Report:
        """Verifies everything, or records from position `since` on. Raises StoreError."""
        began = time.perf_counter()
        report = self.report
        while await self._store.seal():
            pass
        report.since = since
        report.end = await self._evidence.sealed()
        await self._checkpoints.read_stored(self._evidence.checkpoints())
        for where, notes in self._published:
            self._checkpoints.read_published(notes, where)
        await self._order()
        await self._begin(since)
        await self._records(since)
        self._judge()
        for suspect in self._suspects:
            report.add(suspect)
        self._checkpoints.unreached(report.end)
        if since == 1:
            await self._heads()
            await self._strays()
            await self._count_tiles()
            for row in await self._rows("altered_definitions"):
                said = (
                    f"definition {row['name']} version {row['version']}: its data do not have its hash: it was changed"
                )
                self._add("definition", said)
        for one in await self._evidence.breaks():
            report.notes.append(
                f"accepted by {one.accepted_by}: a published tree over {one.size} records is not continued, since this "
                f"log had {one.own_size}: {one.reason}"
            )
        for allowed in await self._evidence.allowances():
            until = Checkpoint("", 0, b"", 0, allowed.until).time
            report.notes.append(
                f"{allowed.allowed_by} allowed processes to start until {until} without any place for checkpoints, "
                f"having seen checkpoint {allowed.seen_number} over {allowed.seen_size} records: {allowed.reason}"
            )
        report.seconds = time.perf_counter() - began
        return report

    async def since(self, signed_before: int) -> int:
        """The first position that no checkpoint signed before this instant (microseconds) covers."""
        rows = await self._rows("position_since", signed_before)
        return int(rows[0]["position"]) + 1

    async def _rows(self, query: str, *args: object) -> list[Any]:
        async with self._store.pools.connection(ROLE) as connection:
            return await connection.fetch(SQL[query], *args)

    # --- the order ----------------------------------------------------------------------------------------------------

    async def _order(self) -> None:
        """The order table has no gap and no overlap, and every batch lies where batches lie."""
        after, expected = -1, 1
        while rows := await self._rows("order_page", after, KEYS_PER_PAGE):
            for row in rows:
                first, start, last = row["first_position"], row["first_seq"], row["last_seq"]
                where = f"order table, row of position {first}"
                if first != expected:
                    said = f"positions {expected} to {first - 1} are given to no record" if first > expected else (
                        f"position {first} is given twice"
                    )  # fmt: skip
                    self._add("order", f"{where}: {said}", min(first, expected))
                if start % SEQS_PER_BATCH or not start <= last < start + SEQS_PER_BATCH:
                    self._add("order", f"{where}: {start} to {last} are not the records of one batch", first)
                expected = max(first + max(last - start, 0) + 1, expected)
            after = rows[-1]["first_position"]

    # --- records, chain, tree -----------------------------------------------------------------------------------------

    async def _begin(self, since: int) -> None:
        if since <= 1:
            return
        self._checkpoints.skip_to(since)
        try:
            async with self._store.pools.connection(ROLE) as connection:
                self._growing = await Nodes(connection).growing(since - 1)
        except MissingNodesError as error:
            self._cut(since - 1, str(error))

    async def _records(self, since: int) -> None:
        at = since - 1
        while at < self.report.end:
            limit = min(RECORDS_PER_PAGE, self.report.end - at)
            rows = await self._rows("record_page", at, limit)
            if not rows:
                self._missing(at + 1, self.report.end)
                return
            for row in rows:
                position = row["position"]
                if position > at + 1:
                    self._missing(at + 1, position - 1)
                elif position <= at:
                    self._record(row, "order", f"position {position} is taken twice")
                    self._cut(position, "")
                await self._one(row)
                at = max(at, position)
            self.report.records += len(rows)
            if self._on_progress is not None:
                self._on_progress(at, self.report.end)

    async def _one(self, row: Any) -> None:
        flaw = stored_flaw(row["saga_id"], row["version"], row["tenant"], row["hash"], row["body"], row["before_hash"])
        if flaw:
            self._record(row, "record", flaw)
        if row["before_seq"] is not None and row["before_seq"] >= row["seq"]:
            self._record(row, "order", "it lies before its predecessor in the order")
        if row["head_version"] is None or row["version"] > row["head_version"]:
            head = "its saga has no head" if row["head_version"] is None else f"its head says {row['head_version']}"
            self._record(row, "head", head)
        if self._growing is None:
            return
        self._judge()
        for tile in self._growing.add(tree.leaf_hash(row["body"])):
            await self._tile(tile)

    def _judge(self) -> None:
        """Compares with the checkpoints of this size; they also say whether records or tiles are wrong."""
        growing = self._growing
        if growing is None or not self._checkpoints.due(growing.size):
            return
        if not self._checkpoints.judge(growing.size, growing.root()):
            for suspect in self._suspects:
                self._add("record", f"{suspect.text}; no root that was signed has this record", suspect.position)
        else:
            for suspect in self._suspects:
                self._add("tile", f"{suspect.text}; the signed root has the record, so the tile was changed",
                          suspect.position)  # fmt: skip
        self._suspects.clear()

    async def _tile(self, tile: Tile) -> None:
        """A tile that these records fill, against the one that is stored."""
        latest = self._checkpoints.latest
        after = (tile.number + 1) << (TILE_LEVELS * (tile.level + 1))
        if latest is None or after > latest.size:
            return  # not sealed yet
        first = (tile.number << (TILE_LEVELS * (tile.level + 1))) + 1
        where = f"tile {tile.number} of level {tile.level} (positions {first} to {after})"
        row = await self._stored_tile(tile.level, tile.number)
        if row is None:
            self._add("tile", f"{where} is missing", first)
            return
        self.report.tiles += 1
        stored, wanted = row["hashes"], tile.hashes
        for at in range(0, HASH_BYTES * TILE_HASHES, HASH_BYTES):
            if stored[at : at + HASH_BYTES] != wanted[at : at + HASH_BYTES]:
                place = at // HASH_BYTES
                position = first + (place << (TILE_LEVELS * tile.level))
                self._suspects.append(
                    Finding("tile", f"{where}: its hash {place} is not that of position {position}", position)
                )
        if row["root"] != tile.root and stored == wanted:
            self._add("tile", f"{where}: its root is not that of its hashes", first)

    async def _stored_tile(self, level: int, number: int) -> Any | None:
        if (level, number) not in self._tiles:
            rows = await self._rows("tiles", level, number, TILES_AT_ONCE)
            self._tiles = {at: row for at, row in self._tiles.items() if at[0] != level}
            self._tiles |= {(level, row["number"]): row for row in rows}
        return self._tiles.get((level, number))

    def _missing(self, first: int, last: int) -> None:
        said = f"position {first} has no record" if first == last else f"positions {first} to {last} have no records"
        self._add("record", f"{said}: deleted, or moved elsewhere", first)
        self._cut(first, "")

    def _cut(self, position: int, why: str) -> None:
        if self._growing is not None:
            self.report.notes.append(
                f"the tree cannot be built beyond position {position - 1}"
                f"{f' ({why})' if why else ''}: checkpoints over more records confirm nothing here"
            )
            self._growing = None
            self._checkpoints.skip_to(self.report.end + 1)

    # --- heads, strays, tiles -----------------------------------------------------------------------------------------

    async def _heads(self) -> None:
        after = ""
        while rows := await self._rows("head_page", after, HEADS_PER_PAGE):
            for row in rows:
                if flaw := _head_flaw(row):
                    text = f"saga {row['saga_id']}, head: {flaw}"
                    self.report.add(Finding("head", text, 0, row["saga_id"], row["version"]))
            self.report.sagas += len(rows)
            after = rows[-1]["saga_id"]

    async def _strays(self) -> None:
        """Records that the order does not know: they would be in no export and no tree."""
        saga, version = "", 0
        while rows := await self._rows("stray_page", saga, version, KEYS_PER_PAGE):
            for row in rows:
                if row["is_double"]:
                    self._record(row, "order", "another record has its place in the order: one of the two was added")
                elif not row["is_ordered"]:
                    self._record(row, "order", "the order does not know it: added, or moved there")
                elif not row["has_head"]:
                    self._record(row, "head", "its saga has no head")
            saga, version = rows[-1]["saga_id"], rows[-1]["version"]

    async def _count_tiles(self) -> None:
        latest = self._checkpoints.latest
        size = latest.size if latest else 0
        for row in await self._rows("tile_counts"):
            expected = size >> (TILE_LEVELS * (row["level"] + 1))
            if row["found"] > expected or row["last"] >= expected:
                self._add(
                    "tile", f"tile {row['last']} of level {row['level']} is there, and no checkpoint covers it"
                )  # fmt: skip

    def _record(self, row: Any, kind: str, text: str) -> None:
        position = row.get("position", 0)
        place = f"position {position}, " if position else ""
        said = f"{place}saga {row['saga_id']}, record {row['version']}: {text}"
        self.report.add(Finding(kind, said, position, row["saga_id"], row["version"]))

    def _add(self, kind: str, text: str, position: int = 0) -> None:
        self.report.add(Finding(kind, text, position))


def _head_flaw(row: Any) -> str:
    """What a head says that its stream does not."""
    if row["found"] != row["version"] or row["last"] != row["version"]:
        return f"it says version {row['version']}, there are {row['found']} records, the last is {row['last']}"
    if row["last_hash"] != row["hash"]:
        return f"its hash is {row['hash'].hex()}, that of record {row['version']} is {row['last_hash'].hex()}"
    if row["tenant"] != row["last_tenant"]:
        return f"its tenant is {row['tenant']!r}, that of its records {row['last_tenant']!r}"
    last, first = _read(row["last_body"]), _read(row["first_body"])
    if last.get("recorded_at") != row["recorded_at"]:
        return f"it was written at {row['recorded_at']}, its last record at {last.get('recorded_at')}"
    start = first.get("data") if first.get("type") == "saga.started" else None
    for name in ("name", "business_key"):
        if isinstance(start, dict) and name in start and start[name] != row[name]:
            return f"its {name} is {row[name]!r:.80}, the start says {start[name]!r:.80}"
    return ""


def _read(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}  # said of the record itself
    return found if isinstance(found, dict) else {}
