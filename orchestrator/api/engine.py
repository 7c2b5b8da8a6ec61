"""The facade: everything that a route, ours or a saga package's own, may ask of the running product.

Rules of this file
- A route never sees the coordinator, the store or SQL: it calls these methods, and gets plain frozen values.
- What was asked for is decided and committed when a method returns. What may not be raises `RefusedError` with the
  kernel's code; `orchestrator/api/problems.py` turns it into one HTTP answer, so a route rarely catches it.
- A saga is named by its id or by its business key, a task by the id that `tasks` gave.

A saga package's routes file:

    from fastapi import APIRouter
    from orchestrator.api.engine import Acting, EngineOf

    router = APIRouter()

    @router.post("/chat", status_code=202)
    async def chat(body: Chat, engine: EngineOf, actor: Acting) -> Answer:
        started = await engine.start("transfer", TransferRequested(...), actor)
        saga = await engine.settled(started.saga_id, seconds_max=1.0)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Depends, Request

from orchestrator.messages import Command, Event

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
    """One saga as lists show it. `phase`: forward, compensating, completed, compensated. `stuck` counts stuck places."""

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


class Engine:
    """What routes call. One per running application; safe for concurrent use."""

    async def start(self, saga: str, message: Event | Command[Any] | Mapping[str, Any], actor: Actor) -> Started:
        """Starts a saga, or finds the one that this very message has started.

        A mapping is read as the saga's start contract (the first one whose fields fit). Raises RefusedError: `not_found`
        (no such saga), `invalid` (the message does not fit), `same_id_other_body` (the business key is taken by another
        message).
        """
        raise NotImplementedError

    async def emit(self, event: Event, actor: Actor, *, event_id: str = "", traceparent: str = "") -> str:
        """Publishes a domain event to its topic; gives its id. Returns when the broker has it durably."""
        raise NotImplementedError

    async def find(self, reference: str, saga: str | None = None) -> SagaView | None:
        """The saga of this id, or the newest one with this business key (of this name, if given)."""
        raise NotImplementedError

    async def sagas(
        self, *, name: str | None = None, business_key: str | None = None, limit: int = 50
    ) -> Sequence[SagaView]:
        """Sagas, newest first."""
        raise NotImplementedError

    async def settled(self, saga_id: str, *, seconds_max: float) -> SagaView:
        """The saga once it has ended, is stuck or waits for a person; or as it is when the time is over."""
        raise NotImplementedError

    async def records(self, saga_id: str) -> Sequence[RecordView]:
        """The saga's records, in order. Raises RefusedError `not_found`."""
        raise NotImplementedError

    async def tasks(self, *, saga_id: str | None = None, state: str | None = "open") -> Sequence[TaskView]:
        """Tasks, the one due first first."""
        raise NotImplementedError

    async def task(self, task_id: str) -> TaskView | None:
        """One task, open or closed."""
        raise NotImplementedError

    async def vote(
        self, task_id: str, answer: Mapping[str, Any], subject_hash: str, actor: Actor, *, reason: str = ""
    ) -> Voted:
        """Votes on a task: decided, authorised and committed when this returns.

        `answer` is the form as JSON with its `outcome` (for an Approval: "approve" or "reject"). Raises RefusedError:
        not_found, already_decided, expired, withdrawn, not_eligible, excluded, voted_already, subject_changed,
        subject_missing, invalid.
        """
        raise NotImplementedError

    async def cancel(self, saga_id: str, actor: Actor, reason: str) -> SagaView:
        """Asks a saga to turn back. Raises RefusedError: not_found, cancel_refused, already_turning, ended."""
        raise NotImplementedError

    async def operate(
        self,
        saga_id: str,
        act: Act,
        place: str,
        version: int,
        actor: Actor,
        reason: str,
        *,
        data: Any = None,
        outcome: str = "",
    ) -> SagaView:
        """An operator's act on a stuck place; `version` is that of the stuck record. Raises RefusedError."""
        raise NotImplementedError


def engine_of(request: Request) -> Engine:
    """The engine of the application that serves this request."""
    engine: Engine = request.app.state.engine
    return engine


def actor_of(request: Request) -> Actor:
    """Who asks, from the request. Raises an HTTP 401 problem where that cannot be known."""
    raise NotImplementedError


EngineOf = Annotated[Engine, Depends(engine_of)]
Acting = Annotated[Actor, Depends(actor_of)]
