"""What a saga's records add up to, and when: one reading of the stream, from which all of its pages are made.

Rules of this file
- A stream is folded once; a look back is the same with fewer records. No graph, no saga code, no clock.
- An activity began and ended when the records that say so were written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestrator.api.views import RecordView
from orchestrator.kernel.api import fold
from orchestrator.kernel.graph import node_path
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import Activity, State


@dataclass(frozen=True, slots=True)
class History:
    """A stream up to a record, and its state there.

    `began`: paths of nodes that something was recorded about. `over`: paths whose end another record took up.
    """

    records: tuple[RecordView, ...]
    state: State
    began: frozenset[str]
    over: frozenset[str]

    @classmethod
    def of(cls, records: Sequence[RecordView], until: int = 0) -> History:
        """Up to record `until` (0: all of them). Raises FoldError for a stream that the kernel did not write."""
        seen = tuple(record for record in records if not until or record.version <= until)
        state = fold(Record(record.type, record.activity, dict(record.data)) for record in seen)
        began, over = set[str](), set[str]()
        for record in seen:
            takes = str(record.data.get("takes") or "")
            (began if takes.startswith("+") else over).add(node_path(takes[1:]))
            began.add(node_path(record.activity))
            failure = record.data.get("failure")
            if isinstance(failure, dict) and failure.get("kind") == "failed":  # a place where the saga turned back
                began.add(node_path(str(failure.get("step") or "")))
        return cls(seen, state, frozenset(began), frozenset(over))

    def at(self, version: int) -> datetime | None:
        """When this record was written; None for one that is not there."""
        if not 1 <= version <= len(self.records):
            return None
        return self.records[version - 1].recorded_at

    def took(self, found: Activity, now: datetime) -> timedelta | None:
        """How long an activity took, or has taken until now; None where nothing says when it began."""
        first, last = self.at(found.opened), self.at(found.settled) if found.settled else now
        return last - first if first is not None and last is not None else None
