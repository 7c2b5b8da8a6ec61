"""Journeys: where every saga stands, the stays that it has behind it, and the counts of which service levels are made.

Rules of this file
- A saga's state is the kernel's fold of its stream (`journey.py`). It is kept in memory while the saga lives and moves;
  one that is not there is folded anew from the store.
- Counts are added in the transaction that moves the checkpoint, so each record counts once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from orchestrator.store.sql import load_queries
from projections.contract import FOREVER, Connection, Facts, FeedRecord, UnreadableRecordError, in_slot
from projections.feed import streams_before
from projections.journey import FoldError, JourneyFold, Span, plain

SQL = load_queries("projections", "journeys.sql")
SAGAS_KEPT = 20_000
TEXT_CHARACTERS_MAX = 500
PLACES_MAX = 50

Row = tuple[Any, ...]


class JourneysProjection:
    """The projection `journeys`."""

    name = "journeys"
    version = 1
    tables = ("journeys", "journey_spans", "journey_levels")

    def __init__(self) -> None:
        self._folds: dict[str, JourneyFold] = {}

    async def apply(
        self, connection: Connection, slot: str, records: Sequence[FeedRecord], facts: Mapping[str, Facts]
    ) -> None:
        """Takes in records in order."""
        await self._load(connection, records)
        spans: list[Row] = []
        moved: dict[str, FeedRecord] = {}
        for record in records:
            fold = self._folds.get(record.saga_id)
            if fold is None:
                fold = self._folds[record.saga_id] = JourneyFold()
            for span in self._take(fold, record):
                spans.append(_span(span, record, facts[record.saga_id]))
            moved[record.saga_id] = record
        await self._write(connection, slot, moved, spans, facts)
        self._let_go(moved)

    def forget(self) -> None:
        """Drops the states that are kept in memory."""
        self._folds.clear()

    def _take(self, fold: JourneyFold, record: FeedRecord) -> list[Span]:
        try:
            return fold.take(record)
        except (FoldError, KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
            raise UnreadableRecordError(self.name, record, f"{type(error).__name__}: {error}") from error

    async def _load(self, connection: Connection, records: Sequence[FeedRecord]) -> None:
        first: dict[str, int] = {}
        for record in records:
            if record.saga_id not in self._folds:
                first.setdefault(record.saga_id, record.version)
        asked = {saga_id: version for saga_id, version in first.items() if version > 1}
        for saga_id, stream in (await streams_before(connection, asked)).items():
            fold = JourneyFold()
            for earlier in stream:
                self._take(fold, earlier)
            fold.levels.clear()  # these counted when they were taken in
            self._folds[saga_id] = fold

    async def _write(
        self,
        connection: Connection,
        slot: str,
        moved: Mapping[str, FeedRecord],
        spans: Sequence[Row],
        facts: Mapping[str, Facts],
    ) -> None:
        rows = [_row(self._folds[saga_id], record, facts[saga_id]) for saga_id, record in sorted(moved.items())]
        await connection.execute(in_slot(SQL["put"], slot), *_columns(rows))
        if spans:
            await connection.execute(in_slot(SQL["add_spans"], slot), *_columns(spans))
        counts: Counter[tuple[str, str, int, str]] = Counter()
        for saga_id in moved:
            saga, levels = facts[saga_id], self._folds[saga_id].levels
            for (hour, metric), n in levels.items():
                counts[saga.tenant, saga.name, hour, metric] += n
            levels.clear()
        if counts:
            sums = [(hour, n, tenant, name, metric) for (tenant, name, hour, metric), n in sorted(counts.items())]
            await connection.execute(in_slot(SQL["count"], slot), *_columns(sums))

    def _let_go(self, moved: Mapping[str, FeedRecord]) -> None:
        """What has ended is hardly ever heard of again; of the rest, those that moved last are kept."""
        for saga_id in moved:
            if self._folds[saga_id].ended_at:
                del self._folds[saga_id]
        if len(self._folds) > SAGAS_KEPT:
            self._folds = {saga_id: fold for saga_id, fold in self._folds.items() if saga_id in moved}


def _row(fold: JourneyFold, record: FeedRecord, saga: Facts) -> Row:
    state = fold.state
    places = [] if fold.ended_at else fold.places()
    first = places[0] if places else None
    return (
        record.position,
        fold.started_at,
        fold.changed_at,
        fold.ended_at or FOREVER,
        first.since if first else 0,
        0 if fold.ended_at else fold.due or FOREVER,
        state.deadline or FOREVER,
        record.version,
        saga.definition_version,
        len(state.stuck),
        saga.tenant,
        record.saga_id,
        saga.name,
        saga.business_key,
        saga.customer,
        state.phase,
        _text(state.outcome),
        _text(Span(first.activity, "", 0, 0, "", 0).node) if first else "",
        first.kind if first else "",
        orjson.dumps([plain(stay) for stay in places[:PLACES_MAX]]),
    )


def _span(span: Span, record: FeedRecord, saga: Facts) -> Row:
    return (
        record.position,
        span.opened_at,
        span.closed_at,
        saga.definition_version,
        span.attempts,
        saga.tenant,
        record.saga_id,
        saga.name,
        span.activity,
        _text(span.node),
        span.kind,
        _text(span.outcome),
    )


def _columns(rows: Sequence[Row]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _text(value: str) -> str:
    return value.replace("\0", "�")[:TEXT_CHARACTERS_MAX]
