"""What a projection is, and what it is given.

Rules of this file
- A projection is a fold over the records of all sagas in safe global order. What it writes follows from the records
  alone, never from a clock, so that building it again gives the same rows.
- Its rows and its checkpoint change in one transaction. What it keeps in memory is a cache: `forget` drops it.
- A record that it cannot read raises UnreadableRecordError with its position. A type that it does not know is none of
  those, unless what it shows would be wrong without it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

FOREVER = 2**63 - 1
"""An end that has not come, microseconds."""


class ProjectionError(Exception):
    """Base of what projections raise. `retriable`: trying again may help."""

    retriable = False


class UnreadableRecordError(ProjectionError):
    """A projection cannot go past this record: its code does not know what it means, or it is damaged."""

    def __init__(self, projection: str, record: FeedRecord, reason: str) -> None:
        super().__init__(
            f"projection {projection} stopped at position {record.position}: {record.type} "
            f"(saga {record.saga_id}, record {record.version}): {reason}"
        )
        self.position = record.position


class GapError(ProjectionError):
    """The feed does not go on where the projection stands: records are missing from the store."""


@dataclass(slots=True)
class FeedRecord:
    """One record of the feed. `position` counts all records of all sagas, without gaps."""

    position: int
    saga_id: str
    version: int
    type: str
    activity: str
    data: dict[str, Any]
    actor: str
    recorded_at: int
    tenant: str
    causation_id: str
    hash: bytes


@dataclass(frozen=True, slots=True)
class Facts:
    """What a saga's first record says of it. `customer`: "" where its start names none."""

    tenant: str
    name: str
    definition_version: int
    business_key: str
    customer: str
    started_at: int


class Connection(Protocol):
    """The transaction that a projection writes in (`orchestrator.store.connections.Guarded`)."""

    async def fetch(self, query: str, *args: object) -> list[Any]:
        """All rows."""

    async def execute(self, query: str, *args: object) -> int:
        """How many rows were changed."""

    async def copy(self, table: str, columns: Sequence[str], rows: Any) -> None:
        """Adds rows."""


class Projection(Protocol):
    """One read model. `version` grows when its rows would come out differently; it is then built anew."""

    @property
    def name(self) -> str:
        """Its name, also that of its rows in `projection_slots`."""

    @property
    def version(self) -> int:
        """The version of its code."""

    @property
    def tables(self) -> Sequence[str]:
        """Its tables, without the slot."""

    async def apply(
        self, connection: Connection, slot: str, records: Sequence[FeedRecord], facts: Mapping[str, Facts]
    ) -> None:
        """Takes in records in order. `facts`: of every saga in them. Raises UnreadableRecordError."""

    def forget(self) -> None:
        """Drops what is kept in memory."""


def in_slot(query: str, slot: str) -> str:
    """A statement of ours for one slot: `{slot}` stands in the names of tables."""
    if slot not in ("a", "b"):
        raise ValueError(f"slot {slot!r}: there are a and b")
    return query.replace("{slot}", slot)
