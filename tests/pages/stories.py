"""Histories for the tests of pages: streams that the real kernel wrote, three seconds from record to record."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.api.views import RecordView
from orchestrator.kernel.records import Record
from orchestrator.pages.drawing.history import History
from orchestrator.testing import Spec

START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
NOW = START + timedelta(minutes=45)
STEP = timedelta(seconds=3)


def views(records: Sequence[Record], pauses: dict[int, timedelta] | None = None) -> list[RecordView]:
    """The records as a page reads them. `pauses`: before which record (its version) how long nothing happened."""
    at, found = START, []
    for version, record in enumerate(records, 1):
        at += (pauses or {}).get(version, STEP if version > 1 else timedelta())
        found.append(RecordView("s-1", version, record.type, record.activity, _plain(record.data), "engine", at))
    return found


def history(spec: Spec, pauses: dict[int, timedelta] | None = None, until: int = 0) -> History:
    """The history of a specification."""
    return History.of(views(spec.records, pauses), until)


def _plain(data: Any) -> dict[str, Any]:
    return dict(data)
