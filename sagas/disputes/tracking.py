"""A case as its customer may see it: few fields, plain words, read off the saga's records; nothing else is stored.

What the model said, who decided, why, and what anybody wrote to anybody is not for this page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from events.disputes import DisputeRaised, ManagerAssigned
from orchestrator.api.engine import RecordView, SagaView, TaskView
from sagas.disputes.definition import DisputeState

# What a customer reads, and what comes next.
_WORDS = {
    DisputeState.RECEIVED: ("We have received your complaint.", "It goes to your relationship manager."),
    DisputeState.ASSIGNED: ("Your relationship manager has your complaint.", "They confirm that they take it on."),
    DisputeState.WITH_MANAGER: ("Your relationship manager is looking into your complaint.", "They decide it."),
    DisputeState.WITH_BRANCH: ("The branch manager is looking into your complaint.", "They decide it."),
    DisputeState.IN_REVIEW: ("A senior reviewer is looking into your complaint.", "They decide it."),
    DisputeState.CLOSED: ("Your complaint is decided.", ""),
    DisputeState.REFERRED: ("Your complaint was passed on to the Ombudsman.", "The Ombudsman writes to you."),
}
_ENDS = frozenset({DisputeState.CLOSED, DisputeState.REFERRED})


@dataclass(frozen=True, slots=True)
class Case:
    """One case: `request` as it came, `assigned` once somebody looks after it, `settled` once it is decided."""

    saga: SagaView
    request: DisputeRaised
    state: DisputeState
    since: datetime
    assigned: ManagerAssigned | None
    settled: Mapping[str, Any] | None
    due: datetime | None

    def shown(self) -> dict[str, Any]:
        """What the customer sees."""
        message, following = _WORDS[self.state]
        over = self.state in _ENDS
        resolution = str(self.settled["resolution"]) if self.settled is not None and over else None
        return {
            "doc_id": self.request.doc_id,
            "status": message,
            "since": self.since.isoformat(),
            "next": following or None,
            "next_by": self.due.isoformat() if self.due is not None and not over else None,
            "resolution": "Referred to Ombudsman" if self.state is DisputeState.REFERRED else resolution,
            "refund": str(self.settled["refund"]) if self.settled is not None and over else None,
            "currency": self.request.currency,
        }


def read_case(saga: SagaView, records: Sequence[RecordView], tasks: Sequence[TaskView]) -> Case:
    """A case from its saga's records. `tasks`: those of this saga that are open."""
    request = DisputeRaised.from_plain(records[0].data["data"])
    state, since = DisputeState.RECEIVED, records[0].recorded_at
    assigned, settled = None, None
    due = tasks[0].due if tasks else None
    for record in records:
        if record.type == "state.entered":
            state, since = DisputeState(record.data["state"]), record.recorded_at
        elif record.type == "step.succeeded" and record.activity == "assign_manager":
            assigned = ManagerAssigned.from_plain(record.data["result"])
        elif record.type == "value.computed" and record.activity == "settlement":
            settled = record.data["value"]
        elif record.type == "event.awaited" and not tasks:
            due = datetime.fromtimestamp(record.data["due"] / 1_000_000, UTC)
    return Case(saga, request, state, since, assigned, settled, due)
