"""What a pack is made of: plain frozen values, read once, from which the same bytes come every time.

Rules of this file
- Nothing here depends on when or where a pack is made: no clock, no host, no reader's profile.
- What is said of related sagas comes from this saga's own records, so that their later life changes nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.api.times import instant
from orchestrator.api.views import RecordView
from orchestrator.evidence.notes import SignedCheckpoint
from orchestrator.store.contract import StoredRecord
from orchestrator.store.queries import StoredDefinition
from orchestrator.store.schemas import StoredSchema

FORMAT = "saga-evidence/1"
DEFAULT_ZONE = "UTC"


@dataclass(frozen=True)
class Strand:
    """One saga of a pack: its records with their proofs, and what they were written by.

    `paths`: for each record the inclusion path to the root of the pack's checkpoint. `definition` None: it was never
    stored, which only a tombstoned child can say of itself.
    """

    tenant: str
    saga_id: str
    name: str
    version: int
    business_key: str
    records: tuple[StoredRecord, ...]
    paths: tuple[tuple[bytes, ...], ...]
    definition: StoredDefinition | None
    schemas: tuple[StoredSchema, ...]

    @cached_property
    def views(self) -> tuple[RecordView, ...]:
        """The records as pages read them."""
        return tuple(
            RecordView(
                one.saga_id, one.version, one.type, one.activity, one.data, one.actor, instant(one.recorded_at),
                one.causation_id, one.traceparent, one.hash.hex(),
            )
            for one in self.records
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Relative:
    """A saga that this one was called by, or has called, as this one's records tell. `outcome`: "" while it is open."""

    kind: str  # parent | child
    saga_id: str
    name: str
    business_key: str
    activity: str
    outcome: str


@dataclass(frozen=True, slots=True)
class Material:
    """Everything. `vkeys`: the key that signs the pack, and that which signed its checkpoint where it is an older one.

    `relatives`: whole sagas that go along.
    """

    strand: Strand
    checkpoint: SignedCheckpoint
    vkeys: tuple[str, ...]
    zone: str = DEFAULT_ZONE
    relatives: tuple[Strand, ...] = ()

    @property
    def command(self) -> str:
        """What verifies the pack, typed in its folder."""
        keys = " ".join(f'--key "{vkey}"' for vkey in self.vkeys)
        return f"python3 -I verify.py pack {keys} ."


def relatives_of(strand: Strand) -> list[Relative]:
    """The parent, and each child in the order of the calls."""
    found: dict[str, Relative] = {}
    for record in strand.records:
        for one in _named(record):
            known = found.get(one.saga_id)
            found[one.saga_id] = one if known is None else _told(known, one.outcome)
    calls = {one.activity: one.saga_id for one in found.values() if one.kind == "child"}
    for record in strand.records:
        child = calls.get(record.activity)
        outcome = {"child.completed": "completed", "child.failed": "failed"}.get(record.type)
        if child is not None and outcome is not None:
            found[child] = _told(found[child], outcome)
    return list(found.values())


def _named(record: StoredRecord) -> Iterator[Relative]:
    parent = record.data.get("parent")
    if record.type in ("saga.started", "saga.tombstoned") and isinstance(parent, Mapping):
        yield Relative("parent", str(parent["saga_id"]), "", "", str(parent.get("activity") or ""), "")
    command: Any = record.data.get("command")
    if record.type == "child.requested" and isinstance(command, Mapping) and command.get("saga_id"):
        name, key = str(command.get("saga") or ""), str(command.get("business_key") or "")
        yield Relative("child", str(command["saga_id"]), name, key, record.activity, "")


def _told(known: Relative, outcome: str) -> Relative:
    if not outcome:
        return known
    return Relative(known.kind, known.saga_id, known.name, known.business_key, known.activity, outcome)
