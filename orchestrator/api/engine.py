"""The facade: everything that a route, ours or a saga package's own, may ask of the running product.

Rules of this file
- A route never sees the coordinator, the store or SQL: it calls these methods, and gets plain frozen values.
- What was asked for is decided and committed when a method returns. What may not be raises `RefusedError` with the
  kernel's code; `orchestrator/api/problems.py` turns it into one HTTP answer, so a route rarely catches it.
- A saga is named by its id or by its business key, a task by the id that `tasks` gave.
- Whose sagas are meant is always said, by an actor or a tenant: what is left out must not mean somebody else's.

A saga package's routes file:

    from fastapi import APIRouter
    from orchestrator.api.engine import Acting, EngineOf, may

    router = APIRouter()

    @router.post("/chat", status_code=202, dependencies=[may("own")])
    async def chat(body: Chat, engine: EngineOf, actor: Acting) -> Answer:
        started = await engine.start("transfer", TransferRequested(...), actor, action="own")
        saga = await engine.settled(started.saga_id, seconds_max=1.0, tenant=actor.tenant)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from hashlib import sha256
from types import TracebackType
from typing import Annotated, Any, Self

from fastapi import Depends, Request

from orchestrator.api import acts, contracts, details, publishing
from orchestrator.api.desk import TaskDesk
from orchestrator.api.door import starting
from orchestrator.api.identity import Acting, actor_of, may
from orchestrator.api.reading import Reading
from orchestrator.api.task_views import Viewer
from orchestrator.api.views import (
    Act,
    Actor,
    CloudEvent,
    LetterView,
    Page,
    Published,
    RecordView,
    RefusedError,
    SagaDetail,
    SagaView,
    Started,
    TaskView,
    Voted,
)
from orchestrator.definition.draw import mermaid
from orchestrator.identity.guard import START
from orchestrator.kernel.inputs import Cancel, Operate
from orchestrator.messages import Command, Event
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.work import Outcome
from orchestrator.store.answers import Answers
from orchestrator.vault.erasing import erasing_of
from projections.models import Models

__all__ = [
    "Act", "Acting", "Actor", "Engine", "EngineOf", "RecordView", "RefusedError", "SagaView", "Started", "TaskView",
    "Voted", "actor_of", "may",
]  # fmt: skip

POLL_SECONDS_FIRST, POLL_SECONDS_MAX = 0.005, 0.1
TASKS_MAX = 500


class Engine:
    """What routes call. One per running application; safe for concurrent use."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._catalog = runtime.catalog
        self.vault = runtime.vault
        self._read = Reading(runtime.store, runtime.vault)
        self.erasing = erasing_of(runtime)
        self._publisher = publishing.Publisher(runtime.broker, runtime.catalog, runtime.vault)
        self.answers = Answers(runtime.store.pools)
        self.desk = TaskDesk(runtime, self._read)
        self.models = Models(runtime.store, runtime.catalog.views)  # the read models

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._publisher.stop()

    @property
    def database_url(self) -> str:
        """The product's database as the application's role, for a saga package with tables in an `OwnSchema`."""
        return self._runtime.database_url

    @property
    def home(self) -> str:
        """The tenant whose house this is: what belongs to nobody, or to all, is for its people alone."""
        return self._runtime.settings.tenant

    def alias(self, person: str) -> str:
        """What stands for a person where it is kept that they asked for something."""
        return self._runtime.alias(person)

    async def known_as(self, actor: Actor, customer: str | None) -> str | None:
        """What stands for a customer in read models: with a vault, the id of their key."""
        if self.vault is None or not customer:
            return customer
        return next(iter(await self.vault.keys.known_ids(actor.tenant, [customer])), customer)

    def fingerprint(self, value: bytes) -> bytes:
        """What tells two requests apart; with a vault it tells nobody else anything."""
        return sha256(value).digest() if self.vault is None else self.vault.digest(value)

    # --- starting and telling -----------------------------------------------------------------------------------------

    def starting(self) -> AbstractContextManager[None]:
        """For a route that does work of its own for a start: `with engine.starting():` around all of it.

        Raises ProblemError `too_many` (429 with Retry-After) before anything is done, where too much is under way.
        """
        return starting(self._runtime.admission)

    async def start(
        self,
        saga: str,
        message: Event | Command[Any] | Mapping[str, Any],
        actor: Actor,
        *,
        message_id: str = "",
        traceparent: str = "",
        promised: bool = False,
        action: str = START,
    ) -> Started:
        """Starts a saga, or finds the one that this very message has started.

        Where too much is under way it is refused (`too_many`, 429); one that was `promised` before is not.

        A mapping is read as the saga's start contract (the first one whose fields fit). `message_id` identifies the
        request: with the same one a repeated start counts as the one that created the saga, also after a crash. Raises
        RefusedError: `same_id_other_body` (the business key is taken by another message), `already_running`, and
        ProblemError: `unknown_saga`, `invalid` (the message does not fit). `action`: by which the actor may start it,
        asked again where it is written: that of the route, where it is not "saga.start" (else `not_allowed`).
        """
        start = contracts.start_message(self._catalog, saga, message)
        cause_id = f"/api/{self._runtime.alias(actor.id)}/{message_id}" if message_id else f"/api/{acts.new_id()}"
        cause = acts.cause_of(actor, cause_id, traceparent, starts=action)
        begin = self._runtime.router.begin(saga, cause, start.wire_name, start.key(), start.plain(), cause_id)
        with starting(self._runtime.admission, promised=promised):
            outcome = acts.checked(await self._runtime.submit(begin), begin.start.saga_id)
        created = outcome.fate == "applied"
        if not created and message_id:
            created = await self._caused(actor.tenant, outcome.saga_id, cause_id)
        return Started(begin.start.saga_id, saga, begin.start.business_key, created)

    async def emit(self, event: Event, actor: Actor, *, event_id: str = "", traceparent: str = "") -> str:
        """Publishes a domain event to its topic; gives its id. Returns when the broker has it durably."""
        sent = CloudEvent(event_id or acts.new_id(), "/api", event.wire_name, event.plain())
        return (await self.publish(sent, actor, traceparent=traceparent)).id

    async def publish(self, event: CloudEvent, actor: Actor, *, traceparent: str = "") -> Published:
        """Checks and publishes an event that a client sent.

        Raises ProblemError: unknown_type, invalid, too_large, and too_many for one that begins sagas; what running
        sagas wait for is always taken.
        """
        with starting(self._runtime.admission, promised=event.type not in self._catalog.routes.starts):
            return await self._publisher.publish(event, actor.tenant, traceparent)

    # --- looking ------------------------------------------------------------------------------------------------------

    async def find(self, reference: str, saga: str | None = None, *, tenant: str) -> SagaView | None:
        """The saga of this id, or the newest one with this business key (of this name, if given)."""
        return await self._read.find(tenant, reference, saga)

    async def saga(self, reference: str, actor: Actor) -> SagaView:
        """As `find`, for this actor. Raises RefusedError `not_found`."""
        found = await self.find(reference, tenant=actor.tenant)
        if found is None:
            raise RefusedError("not_found", f"There is no saga with the id or business key {reference[:80]!r}.")
        return found

    async def sagas(
        self,
        actor: Actor,
        *,
        name: str | None = None,
        business_key: str | None = None,
        phase: str | None = None,
        waiting_for: str | None = None,
        stuck: bool | None = None,
        limit: int = 50,
        cursor: str = "",
    ) -> Page[SagaView]:
        """Sagas, newest first. Raises ProblemError `bad_cursor`."""
        return await self._read.sagas(
            actor.tenant, name=name, business_key=business_key, phase=phase, waiting_for=waiting_for, stuck=stuck,
            limit=limit, cursor=cursor,
        )  # fmt: skip

    async def detail(self, reference: str, actor: Actor) -> SagaDetail:
        """One saga in full. Raises RefusedError `not_found`."""
        saga = await self.saga(reference, actor)
        return details.detail_of(saga, *await self._read.state(saga.tenant, saga.saga_id))

    async def undo_plan(self, reference: str, actor: Actor) -> dict[str, Any]:
        """What a turn back would undo now, first to last."""
        saga = await self.saga(reference, actor)
        installed = self._catalog.sagas.get((saga.name, saga.version))
        graph = installed.graph if installed is not None else None
        state, _ = await self._read.state(saga.tenant, saga.saga_id)
        return details.plan_of(saga, state, graph)

    async def drawn(self, reference: str, actor: Actor) -> dict[str, Any]:
        """The definition that this saga runs on, as data and as Mermaid text, and the status of each activity."""
        saga = await self.saga(reference, actor)
        state, _ = await self._read.state(saga.tenant, saga.saga_id)
        installed = self._catalog.sagas.get((saga.name, saga.version))
        return {
            "sagaId": saga.saga_id,
            "name": saga.name,
            "version": saga.version,
            "graph": await self._read.graph(saga.name, saga.version),
            "mermaid": mermaid(installed.graph) if installed is not None else None,
            "status": {name: found.status for name, found in state.activities.items()},
        }

    async def settled(self, saga_id: str, *, seconds_max: float, tenant: str) -> SagaView:
        """The saga once it has ended, is stuck or waits for a person; or as it is when the time is over.

        Raises RefusedError `not_found`.
        """
        loop = asyncio.get_running_loop()
        over, pause = loop.time() + seconds_max, POLL_SECONDS_FIRST
        while True:
            saga = await self.saga(saga_id, Actor("system", tenant=tenant))
            rests = saga.ended or saga.stuck or saga.waiting_for.startswith("task ")
            if rests or loop.time() >= over:
                return saga
            await asyncio.sleep(min(pause, max(0.0, over - loop.time())))
            pause = min(pause * 1.5, POLL_SECONDS_MAX)

    async def records(self, saga_id: str, actor: Actor) -> Sequence[RecordView]:
        """The saga's records, in order. Raises RefusedError `not_found`."""
        saga = await self.saga(saga_id, actor)
        return await self._read.records(saga.tenant, saga.saga_id)

    # --- people -------------------------------------------------------------------------------------------------------

    async def tasks(self, *, tenant: str, saga_id: str | None = None, state: str | None = "open") -> Sequence[TaskView]:
        """Tasks, the one due first first, at most TASKS_MAX."""
        actor = Actor("system", tenant=tenant, capacities=frozenset({"viewer"}))
        page = await self.task_page(actor, saga_id=saga_id, state=state, limit=TASKS_MAX)
        return page.items

    async def task_page(
        self,
        actor: Actor,
        *,
        state: str | None = "open",
        saga_id: str | None = None,
        mine: bool = False,
        limit: int = 50,
        cursor: str = "",
    ) -> Page[TaskView]:
        """Tasks, the one due first first. `mine`: that this actor may decide. Raises ProblemError `bad_cursor`."""
        return await self.desk.page(actor, state=state, saga_id=saga_id, mine=mine, limit=limit, cursor=cursor)

    async def task(self, task_id: str, *, tenant: str) -> TaskView | None:
        """One task, open or closed, as nobody in particular sees it; `desk.view` says what an actor may."""
        return await self.desk.find(task_id, Viewer(Actor("system", tenant=tenant), acts.received_at(self._runtime)))

    async def vote(
        self,
        task_id: str,
        answer: Mapping[str, Any],
        subject_hash: str,
        actor: Actor,
        *,
        reason: str = "",
        on_behalf_of: str = "",
        traceparent: str = "",
        message_id: str = "",
    ) -> Voted:
        """Votes on a task: decided, authorised and committed when this returns.

        `answer` is the form as JSON with its `outcome` (for an Approval: "approve" or "reject"). `message_id`: of the
        request; a vote that an attempt with the same one has cast counts as this one's. `on_behalf_of`: somebody for
        whom the actor stands in, or the actor for their own right alone; "": whichever right suffices, their own first.
        Raises RefusedError: not_found, already_decided, expired, withdrawn, not_eligible, excluded, voted_already,
        subject_changed, subject_missing, over_limit, not_substitute, invalid.
        """
        return await self.desk.vote(
            task_id, answer, subject_hash, actor, reason=reason, on_behalf_of=on_behalf_of, traceparent=traceparent,
            message_id=message_id,
        )  # fmt: skip

    async def cancel(self, saga_id: str, actor: Actor, reason: str, *, message_id: str = "") -> SagaView:
        """Asks a saga to turn back. Raises RefusedError: not_found, cancel_refused, already_turning, ended."""
        saga = await self.saga(saga_id, actor)
        request = f"cancel/{message_id}" if message_id else ""
        await self._act(saga.saga_id, Cancel(actor.id, reason), actor, "", request)
        return await self.saga(saga.saga_id, actor)

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
        message_id: str = "",
    ) -> SagaView:
        """An operator's act on a stuck place; `version` is that of the stuck record. Raises RefusedError."""
        saga = await self.saga(saga_id, actor)
        given = Operate(act, place, version, actor.id, reason, data, outcome)
        request = f"{act}/{place}/{message_id}" if message_id else ""
        await self._act(saga.saga_id, given, actor, "", request)
        return await self.saga(saga.saga_id, actor)

    # --- dead letters and what is installed ---------------------------------------------------------------------------

    async def letters(
        self,
        actor: Actor,
        *,
        reason: str | None = None,
        redriven: bool | None = False,
        limit: int = 50,
        cursor: str = "",
    ) -> Page[LetterView]:
        """Dead letters, newest first. Raises ProblemError `bad_cursor`."""
        return await self._read.letters(actor.tenant, reason=reason, redriven=redriven, limit=limit, cursor=cursor)

    async def letter(self, letter_id: int, actor: Actor) -> LetterView:
        """One dead letter. Raises RefusedError `not_found`."""
        return (await self._read.letter(actor.tenant, letter_id))[0]

    async def redrive(self, letter_id: int, actor: Actor, reason: str) -> dict[str, Any]:
        """Processes a dead letter again. Raises RefusedError: not_found, redriven_already."""
        letter, raw = await self._read.letter(actor.tenant, letter_id)
        if letter.redriven_at is not None:
            raise RefusedError("redriven_already", f"Letter {letter_id} was processed at {letter.redriven_at}.")
        acts.log.info("dead letter redriven", letter=letter_id, by=actor.id, reason=reason)
        outcome = await self._runtime.redrive(raw, letter_id)
        return {"letter": letter_id, "fate": outcome.fate, "sagaId": outcome.saga_id, "reason": outcome.reason}

    def contracts(self, actor: Actor) -> Sequence[dict[str, Any]]:
        """The message types that installed sagas use."""
        return list(contracts.listed(self._catalog))

    def contract(self, name: str, actor: Actor) -> dict[str, Any]:
        """One of them with schema and example. Raises ProblemError `not_found`."""
        return contracts.described(self._catalog, name)

    def definitions(self, actor: Actor) -> Sequence[dict[str, Any]]:
        """The installed sagas."""
        return list(contracts.definitions(self._catalog))

    async def not_ready(self) -> list[str]:
        """What makes no progress, in words; empty when the process is ready."""
        health = self._runtime.health()
        reasons = health.reasons()
        if not await self._read.answers():
            reasons.append("database: does not answer")
        return reasons if reasons or health.ready else ["the process is starting or stopping"]

    # --- helpers ------------------------------------------------------------------------------------------------------

    async def _act(
        self, saga_id: str, given: Cancel | Operate, actor: Actor, traceparent: str, request: str = ""
    ) -> Outcome:
        cause = acts.cause_of(actor, f"/api/{self._runtime.alias(actor.id)}/{request or acts.new_id()}", traceparent)
        return await acts.act(self._runtime, saga_id, given, cause, self._read if request else None)

    async def _caused(self, tenant: str, saga_id: str, cause_id: str) -> bool:
        """True where this very request started the saga, in an attempt that nobody heard the end of."""
        records = await self._read.records(tenant, saga_id)
        return bool(records) and records[0].causation_id == cause_id


def engine_of(request: Request) -> Engine:
    """The engine of the application that serves this request."""
    engine: Engine = request.app.state.engine
    return engine


EngineOf = Annotated[Engine, Depends(engine_of)]
