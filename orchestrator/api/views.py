"""What routes get and give: plain frozen values, without store, kernel or HTTP in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Act = Literal["retry", "value", "done", "not_done", "skip", "take_over", "give_back", "settle"]


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks. `id` is the person or service, `roles` those held now, `authentication` how we know."""

    id: str
    roles: tuple[str, ...] = ()
    authentication: str = ""
    on_behalf_of: str = ""
    tenant: str = "main"


@dataclass(frozen=True, slots=True)
class Started:
    """A start. `created` is False where the very same start was there before."""

    saga_id: str
    name: str
    business_key: str
    created: bool


@dataclass(frozen=True, slots=True)
class SagaView:
    """A saga as lists show it; `phase`: forward, compensating, completed, compensated; `stuck`: how many places."""

    saga_id: str
    name: str
    version: int
    business_key: str
    phase: str
    outcome: str
    waiting_for: str
    stuck: int
    started_at: datetime
    updated_at: datetime
    record: int  # version of the last record
    tenant: str = "main"
    parent: str = ""
    traceparent: str = ""

    @property
    def ended(self) -> bool:
        """No record will follow, except late replies."""
        return self.phase in ("completed", "compensated")


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task asked of people. `shown` is what they decide on; its hash must come back with a vote."""

    id: str
    saga_id: str
    saga_name: str
    business_key: str
    activity: str
    state: str  # open | decided | expired | withdrawn
    shown: Any
    form_schema: Any
    outcomes: tuple[str, ...]
    to: tuple[Mapping[str, str], ...]
    excluded: tuple[str, ...]
    votes: tuple[Mapping[str, Any], ...]
    votes_needed: int
    subject_hash: str
    opened_at: datetime
    due: datetime | None
    help: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RecordView:
    """One record of a saga's stream."""

    saga_id: str
    version: int
    type: str
    activity: str
    data: Mapping[str, Any]
    actor: str
    recorded_at: datetime
    causation_id: str = ""
    traceparent: str = ""
    hash: str = ""


@dataclass(frozen=True, slots=True)
class Voted:
    """A vote that was recorded. `decided`: it settled the task, with `outcome`; else more votes are needed."""

    task_id: str
    saga_id: str
    outcome: str
    decided: bool
    record: int


class RefusedError(Exception):
    """What was asked for may not be. `code` and `facts` are the kernel's refusal; nothing was recorded.

    Codes: those of `orchestrator.kernel.inputs.Refusal`.
    """

    def __init__(self, code: str, text: str, facts: Mapping[str, Any] | None = None, saga_id: str = "") -> None:
        super().__init__(text)
        self.code = code
        self.text = text
        self.facts = dict(facts or {})
        self.saga_id = saga_id
