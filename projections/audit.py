"""The audit trail: one row for every record, with what people search by. What was recorded stays in the record itself.

Rules of this file
- Every record has a row, whatever its type: `audit completeness` is the number of rows over the position reached.
- Rows are added, never changed; the application has no right to change them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from projections.contract import Connection, Facts, FeedRecord

OUTCOME_CHARACTERS_MAX = 200
COLUMNS = (
    "position", "recorded_at", "version", "definition_version", "tenant", "saga_id", "name", "business_key", "customer",
    "type", "activity", "actor", "outcome",
)  # fmt: skip

# The last words of record types that say how something went.
_SAYING = frozenset(
    {"succeeded", "refused", "failed", "timed_out", "expired", "completed", "compensated", "stuck", "contradicted"}
)


class AuditProjection:
    """The projection `audit`."""

    name = "audit"
    version = 1
    tables = ("audit",)

    async def apply(
        self, connection: Connection, slot: str, records: Sequence[FeedRecord], facts: Mapping[str, Facts]
    ) -> None:
        """Adds a row for each record."""
        rows = []
        for record in records:
            saga = facts[record.saga_id]
            rows.append(
                (
                    record.position,
                    record.recorded_at,
                    record.version,
                    saga.definition_version,
                    record.tenant,
                    record.saga_id,
                    saga.name,
                    saga.business_key,
                    saga.customer,
                    record.type,
                    record.activity,
                    record.actor,
                    outcome_of(record.type, record.data),
                )
            )
        await connection.copy(f"audit_{slot}_stored", COLUMNS, rows)

    def forget(self) -> None:
        """Keeps nothing."""


def outcome_of(type_: str, data: Mapping[str, Any]) -> str:
    """How what is recorded went, in one word; "" where a record says nothing of that."""
    outcome = data.get("outcome")
    if outcome is None and type_ == "task.voted" and isinstance(vote := data.get("vote"), Mapping):
        outcome = vote.get("outcome")
    if isinstance(outcome, str) and outcome:
        return outcome[:OUTCOME_CHARACTERS_MAX]
    word = type_.rpartition(".")[2]
    return word if word in _SAYING else ""
