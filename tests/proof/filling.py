"""A store with very many sagas, made quickly: real streams of a real product, copied under other names.

Rules of this file
- Every copy is a whole, valid stream: its chain of hashes holds, its head fits, its positions are sealed.
- Instants move with the copy, so that lists have months to show.
- Copies lie in the feed as sagas do that run side by side: record by record, some hundreds of sagas at a time.
- What waits for a person has its task and its candidates, as the write path leaves them.
- Some customers and people are in very many sagas, most in few: lists are asked for both kinds.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

GROUP_SAGAS = 400
BATCH_RECORDS = 1_000
FREQUENT_OF_TEN = 3  # sagas of ten that keep the customer whom their template has; the others go to many customers
CUSTOMERS = 100_000
PEOPLE = 499  # half of the sagas keep the people of their template
INSTANT_DIGITS, HASH_DIGITS = 16, 64
SPREAD_US = 30 * 24 * 3_600_000_000  # the copies began within so long before the first one
_INSTANT = (
    rb'(?<="recorded_at":)\d{16}|(?<="opened_at":)\d{16}|(?<="expires":)\d{16}|(?<="due":)\d{16}|(?<="at":)\d{16}'
)
_PREVIOUS = rb'(?<="previous":")[0-9a-f]{64}'
_HEAD = (
    "saga_id", "tenant", "name", "business_key", "version", "definition_version", "recorded_at", "started_at", "stuck",
    "ended", "hash", "phase", "outcome", "waiting_for", "parent",
)  # fmt: skip
_TASK = ("opened_at", "due", "closed_at", "saga_id", "activity", "tenant", "closed", "data")
_CANDIDATE = ("due", "tenant", "candidate", "saga_id", "activity", "barred")
_RECORD = ("seq", "version", "saga_id", "tenant", "hash", "body")


@dataclass(frozen=True, slots=True)
class Template:
    """One saga as it lies in a store."""

    head: dict[str, Any]
    records: tuple[tuple[bytes, ...], ...]  # bodies, cut where a copy differs: every second part does
    tasks: tuple[dict[str, Any], ...]
    candidates: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Filled:
    """What was added."""

    sagas: int
    records: int
    tasks: int


async def templates(connection: Any, saga_ids: Sequence[str]) -> list[Template]:
    """The sagas with these ids, to be copied."""
    found = []
    for saga_id in saga_ids:
        head = dict(await connection.fetchrow("SELECT * FROM saga_heads WHERE saga_id = $1", saga_id))
        rows = await connection.fetch("SELECT body FROM records WHERE saga_id = $1 ORDER BY version", saga_id)
        tasks = await connection.fetch("SELECT * FROM tasks WHERE saga_id = $1", saga_id)
        candidates = await connection.fetch("SELECT * FROM task_candidates WHERE saga_id = $1", saga_id)
        names = "|".join(re.escape(head[name]) for name in ("saga_id", "business_key")) + "|customer-|maria"
        cuts = re.compile(b"(" + names.encode() + b"|" + _INSTANT + b"|" + _PREVIOUS + b")")
        bodies = tuple(tuple(cuts.split(row["body"])) for row in rows)
        found.append(Template(head, bodies, tuple(map(dict, tasks)), tuple(map(dict, candidates))))
    return found


async def fill(admin_url: str, made_of: Sequence[tuple[Template, int]], sagas: int) -> Filled:
    """Adds so many copies; each template is taken as often as its weight says. Logs in as a superuser."""
    connection = await asyncpg.connect(admin_url)
    try:
        await connection.execute("SET synchronous_commit = off")
        batch = await connection.fetchval("SELECT coalesce(max(last_seq) >> 20, 0) + 1000000 FROM feed_sealed")
        position = await connection.fetchval(
            "SELECT coalesce(max(first_position + last_seq - first_seq + 1), 1) FROM feed_sealed"
        )
        cycle = [template for template, weight in made_of for _ in range(weight)]
        done = records = tasks = 0
        while done < sagas:
            count = min(GROUP_SAGAS, sagas - done)
            chosen = [cycle[(done + number) % len(cycle)] for number in range(count)]
            shifts = [-SPREAD_US + SPREAD_US * (done + number) // sagas for number in range(count)]
            copies = [
                _Copy(template, shift, done + number)
                for number, (template, shift) in enumerate(zip(chosen, shifts, strict=True))
            ]
            rows = [row for level in itertools.zip_longest(*(c.rows() for c in copies)) for row in level if row]
            for start in range(0, len(rows), BATCH_RECORDS):
                part = rows[start : start + BATCH_RECORDS]
                await _add(connection, batch, position, part)
                batch, position = batch + 1, position + len(part)
            await connection.copy_records_to_table("saga_heads", records=[c.head() for c in copies], columns=_HEAD)
            open_tasks = [row for c in copies for row in c.tasks()]
            await connection.copy_records_to_table("tasks", records=open_tasks, columns=_TASK)
            candidates = [row for c in copies for row in c.candidates()]
            await connection.copy_records_to_table("task_candidates", records=candidates, columns=_CANDIDATE)
            done, records, tasks = done + count, records + len(rows), tasks + len(open_tasks)
        await connection.execute(f"SELECT setval('batches', {batch + 1})")
        await connection.execute("ANALYZE")
        return Filled(done, records, tasks)
    finally:
        await connection.close()


async def _add(connection: Any, batch: int, position: int, rows: Sequence[tuple[int, str, str, bytes, bytes]]) -> None:
    first = batch << 20
    numbered = [(first + number, *row) for number, row in enumerate(rows)]
    await connection.copy_records_to_table("records_stored", records=numbered, columns=_RECORD)
    await connection.execute("INSERT INTO feed_sealed VALUES ($1, $2, $3)", position, first, first + len(rows) - 1)


def renamed(number: int) -> dict[str, str]:
    """Whom the copy with this number names instead: nobody else, or a customer or a person out of many."""
    customer = {} if number % 10 < FREQUENT_OF_TEN else {"customer-": f"customer-{number * 7919 % CUSTOMERS:05d}-"}
    return customer if number % 2 else {**customer, "maria": f"person-{number // 2 % PEOPLE:03d}"}


class _Copy:
    """A template under another name, at another time."""

    def __init__(self, template: Template, shift: int, number: int) -> None:
        self._template, self._shift = template, shift
        self._id, self._key = str(uuid.uuid4()), str(uuid.uuid4())
        self._names = renamed(number)
        self._hash = b""

    def _named(self, text: str) -> str:
        for old, new in self._names.items():
            text = text.replace(old, new)
        return text

    def rows(self) -> Iterator[tuple[int, str, str, bytes, bytes]]:
        """(version, saga id, tenant, hash, body) of its records, in order."""
        head, shift = self._template.head, self._shift
        own = {head["saga_id"]: self._id, head["business_key"]: self._key, **self._names}
        changed = {old.encode(): new.encode() for old, new in own.items()}
        link = bytes(32).hex().encode()
        for version, cut in enumerate(self._template.records, start=1):
            parts = list(cut)
            for at in range(1, len(parts), 2):
                part = parts[at]
                if len(part) == INSTANT_DIGITS:
                    parts[at] = b"%d" % (int(part) + shift)
                else:
                    parts[at] = link if len(part) == HASH_DIGITS else changed.get(part, part)
            body = b"".join(parts)
            self._hash = hashlib.sha256(body).digest()
            link = self._hash.hex().encode()
            yield version, self._id, head["tenant"], self._hash, body

    def head(self) -> tuple[Any, ...]:
        """Its head; after `rows`."""
        moved = {"recorded_at": self._shift, "started_at": self._shift}
        changed = {"saga_id": self._id, "business_key": self._key, "hash": self._hash}
        head = {**self._template.head, **changed}
        return tuple(head[name] + moved.get(name, 0) if name in moved else head[name] for name in _HEAD)

    def tasks(self) -> Iterator[tuple[Any, ...]]:
        """Its tasks that are open."""
        for task in self._template.tasks:
            if not task["closed"]:
                changed = {**task, "saga_id": self._id, "due": task["due"] + self._shift + SPREAD_US}
                yield tuple(changed[name] for name in _TASK)

    def candidates(self) -> Iterator[tuple[Any, ...]]:
        """Who may decide them."""
        for candidate in self._template.candidates:
            changed = {**candidate, "saga_id": self._id, "due": candidate["due"] + self._shift + SPREAD_US}
            yield tuple(changed[name] for name in _CANDIDATE)
