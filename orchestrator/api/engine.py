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
from typing import Annotated, Any

from fastapi import Depends, Request

from orchestrator.api.identity import identify
from orchestrator.api.views import Act, Actor, RecordView, RefusedError, SagaView, Started, TaskView, Voted
from orchestrator.messages import Command, Event

__all__ = [
    "Act", "Acting", "Actor", "Engine", "EngineOf", "RecordView", "RefusedError", "SagaView", "Started", "TaskView",
    "Voted",
]  # fmt: skip


class Engine:
    """What routes call. One per running application; safe for concurrent use."""

    async def start(self, saga: str, message: Event | Command[Any] | Mapping[str, Any], actor: Actor) -> Started:
        """Starts a saga, or finds the one that this very message has started.

        A mapping is read as the saga's start contract (the first one whose fields fit). Raises RefusedError:
        `unknown_saga`, `invalid` (the message does not fit), `same_id_other_body` (the business key is taken by
        another message).
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
    """Who asks, from the request. Raises ProblemError `unauthenticated` (401) where that cannot be known."""
    return identify(request)


EngineOf = Annotated[Engine, Depends(engine_of)]
Acting = Annotated[Actor, Depends(actor_of)]
