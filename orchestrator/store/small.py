"""A small batch: the same work as batch.sql's statements, in one or two calls of functions that live in the database.

Rules of this file
- The functions (migration 0003) do what the statements of the same names do, in the same order; the contract's suite
  runs on both. Only what nearly every batch writes is in there, the rest stays a statement of its own.
- A statement costs some tenths of a millisecond whatever it does: for few inputs that is nearly all of a batch. For
  many, COPY is cheaper than arrays (docs/adr/0006), so they go the other way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.store.batch_rows import Statement
from orchestrator.store.columns import texts
from orchestrator.store.connections import Guarded
from orchestrator.store.contract import Head, PresumedWrongError, SagaStart
from orchestrator.store.sql import load_queries

SQL = load_queries("orchestrator.store", "batch.sql")
SAGAS_MAX = 100  # measured: from some 200 on the other way is cheaper
RECORDS_MAX = 300

# The parameters of write_v1, in order: statement, and which of its columns. A statement that a batch has not is NULLs.
_PLACES: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("clear_timers", (0, 1, 2)),
    ("records_stored", (0, 1, 2, 3, 4, 5)),
    ("advance_heads", (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)),
    ("outbox_unsent", (2,)),
    ("outbox", (0, 2, 3, 4, 5, 6, 7)),
    ("timers", (0, 1, 2, 3, 4, 5)),
    ("announce_batch", (0,)),
    ("free_runs", (0, 1, 2, 3)),
    ("checks_done", (0, 1, 2, 3)),
    ("close_waits", (0, 1)),
    ("open_waits", (0, 1, 2, 3, 4, 5, 7)),
    ("move_positions", (0, 1, 2, 3, 4)),
)
_NAMES = frozenset(name for name, _ in _PLACES)
_ARGUMENTS = sum(len(places) for _, places in _PLACES)

Claimed = tuple[dict[str, Head], dict[bytes, bytes], int, int]


async def claim(
    connection: Guarded, wanted: Sequence[str], starts: Sequence[SagaStart], messages: Sequence[tuple[bytes, bytes]]
) -> Claimed:
    """Locks and makes heads, takes runs and messages; all sorted, and without doubles.

    Gives the heads, the stored body hash of every message that was taken in before, the clock and the batch's number.
    """
    columns: Sequence[Sequence[str] | None] = [
        texts(column) for column in zip(*((s.saga_id, s.tenant, s.name, s.business_key) for s in starts), strict=True)
    ] or (None, None, None, None)
    rows = await connection.fetch(
        SQL["claim_few"],
        *columns,
        texts(wanted),
        [key for key, _ in messages] or None,
        [body_hash for _, body_hash in messages] or None,
    )
    first = rows[0]
    seen = dict(zip(first[2] or (), first[3] or (), strict=True))
    return {row[4]: Head(*row[4:]) for row in rows if row[4] is not None}, seen, first[0], first[1]


async def write(connection: Guarded, statements: Iterable[Statement], now: int) -> tuple[int, list[Statement]]:
    """Writes what is in `_PLACES`; how many heads moved on, and the statements that are still to be run."""
    arguments, rest, places = _arguments(statements)
    if not arguments:
        return 0, rest
    if places:
        (advanced,) = await connection.fetchrow(SQL["write_few_traced"], *arguments, now, places)
    else:
        (advanced,) = await connection.fetchrow(SQL["write_few"], *arguments, now)
    return advanced, rest


@dataclass(frozen=True, slots=True)
class Presumed:
    """What a batch was decided on without asking. `messages`: body hash by key."""

    heads: Sequence[Head]
    starts: Sequence[SagaStart]
    messages: Mapping[bytes, bytes]
    now: int


async def write_presumed(
    connection: Guarded, presumed: Presumed, statements: Iterable[Statement]
) -> tuple[int, int, int, list[Statement]]:
    """Verifies and writes in one call, which is a transaction by itself where no further statements are to be run.

    Gives the clock, the batch's number (the statements were numbered as batch 1), how many heads moved on, and the
    statements that are still to be run, in a transaction that is open then. Raises PresumedWrongError.
    """
    arguments, rest, places = _arguments(statements)
    heads = sorted(presumed.heads, key=lambda head: head.saga_id)
    starts = sorted(presumed.starts, key=lambda start: start.saga_id)
    messages = sorted(presumed.messages.items())
    given = (
        *_columns([(head.saga_id, head.version, head.hash) for head in heads], 3),
        *(c and texts(c) for c in _columns([(s.saga_id, s.tenant, s.name, s.business_key) for s in starts], 4)),
        *_columns(messages, 2),
        presumed.now,
        *(arguments or [None] * _ARGUMENTS),
    )
    if rest:
        await connection.begin()
    if places:
        now, number, advanced = await connection.alone(SQL["write_presumed_traced"], *given, places)
    else:
        now, number, advanced = await connection.alone(SQL["write_presumed"], *given)
    if number is None:
        raise PresumedWrongError("a head, a start, a message or the clock is not as this batch had presumed")
    return now, number, advanced, rest


def _columns(rows: Sequence[tuple[Any, ...]], count: int) -> Sequence[Sequence[Any] | None]:
    return [list(column) for column in zip(*rows, strict=True)] or [None] * count


def _arguments(statements: Iterable[Statement]) -> tuple[list[Any], list[Statement], list[int]]:
    """The arguments of write_v1, none where it has nothing to do, the statements that it does not know, and the places
    of trace_batch, which comes along in the same call."""
    traced: list[int] = []
    found: dict[str, Sequence[Any]] = {}
    rest: list[Statement] = []
    for name, columns in statements:
        if name in _NAMES:
            found[name] = columns
        elif name == "trace_batch":
            traced = columns[1]
        else:
            rest.append((name, columns))
    arguments: list[Any] = []
    for name, places in _PLACES:
        given = found.get(name)
        if given is None:
            arguments += [None] * len(places)
        else:
            arguments += [
                column if isinstance(column := given[place], (list, int)) else list(column) for place in places
            ]
    return arguments if found else [], rest, traced
