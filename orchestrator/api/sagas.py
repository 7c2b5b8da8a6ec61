"""Routes of sagas: start, list, look, and the acts of operators."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.api.body import json_object
from orchestrator.api.engine import Acting, Actor, Engine, EngineOf, may
from orchestrator.api.idempotency import key_of, once
from orchestrator.api.problems import ProblemError
from orchestrator.api.shapes import respond
from orchestrator.api.tracing import traceparent_of
from orchestrator.api.views import Act

router = APIRouter(prefix="/v1/sagas", tags=["sagas"])

PAGE_ITEMS_MAX = 500
REASON_CHARACTERS_MAX = 2_000

Reason = Annotated[str, Field(min_length=1, max_length=REASON_CHARACTERS_MAX, pattern=r"\S")]

# The path of an act and the kernel's word for it.
ACTS: dict[str, Act] = {
    "retry": "retry",
    "value": "value",
    "done": "done",
    "not-done": "not_done",
    "skip": "skip",
    "take-over": "take_over",
    "give-back": "give_back",
    "settle": "settle",
}


class _Strict(BaseModel):
    """A body of our own: an unknown field is an error, since it may be a misspelt one."""

    model_config = ConfigDict(extra="forbid", strict=True)


class CancelBody(_Strict):
    """Why a saga shall turn back."""

    reason: Reason


class ActBody(_Strict):
    """An operator's act: on which stuck place, seen at which record, and why.

    `data`: the reply (done, settle) or the function's value (value). `outcome`: for settle, `done` or `not_done`.
    """

    place: Annotated[str, Field(max_length=500)]
    version: Annotated[int, Field(ge=1)]
    reason: Reason
    data: Any = None
    outcome: Annotated[str, Field(max_length=20, pattern="^(|done|not_done)$")] = ""


@router.post("/{name}", status_code=201, dependencies=[may("saga.start")])
async def start(name: str, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Starts a saga with its start message. 201: started; 200: this very start was there before; 429: later."""
    with engine.starting():  # before the key is looked up: a refused start costs no query
        return await _start(name, json_object(await request.body()), request, engine, actor)


async def _start(name: str, message: dict[str, Any], request: Request, engine: Engine, actor: Actor) -> Response:
    async def work() -> Response:
        started = await engine.start(
            name, message, actor, message_id=key_of(request) or "", traceparent=traceparent_of(request)
        )
        url = str(request.url_for("show", reference=started.saga_id))
        body = {
            "sagaId": started.saga_id,
            "name": started.name,
            "businessKey": started.business_key,
            "created": started.created,
            "trackingUrl": url,
        }
        return respond(body, 201 if started.created else 200, {"Location": url})

    return await once(request, actor, engine.answers, work, required=True)


@router.get("", dependencies=[may("saga.read")])
async def list_sagas(
    engine: EngineOf,
    actor: Acting,
    name: Annotated[str | None, Query(max_length=200)] = None,
    phase: Annotated[str | None, Query(max_length=50)] = None,
    business_key: Annotated[str | None, Query(alias="businessKey", max_length=500)] = None,
    waiting_for: Annotated[str | None, Query(alias="waitingFor", max_length=500)] = None,
    stuck: bool | None = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_ITEMS_MAX)] = 50,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """Sagas, newest first, filtered; `next` is the cursor of the following page."""
    page = await engine.sagas(
        actor,
        name=name,
        phase=phase,
        business_key=business_key,
        waiting_for=waiting_for,
        stuck=stuck,
        limit=limit,
        cursor=cursor or "",
    )
    return respond(page)


@router.get("/{reference}", name="show", dependencies=[may("saga.read")])
async def show(reference: str, engine: EngineOf, actor: Acting) -> Response:
    """One saga by its id or business key."""
    return respond(await engine.detail(reference, actor))


@router.get("/{reference}/records", dependencies=[may("saga.read")])
async def records(reference: str, engine: EngineOf, actor: Acting) -> Response:
    """The saga's records in order: what happened, when, by whom."""
    detail = await engine.saga(reference, actor)
    return respond({"sagaId": detail.saga_id, "items": tuple(await engine.records(detail.saga_id, actor))})


@router.get("/{reference}/graph", dependencies=[may("saga.read")])
async def graph(reference: str, engine: EngineOf, actor: Acting) -> Response:
    """The saga's definition as a graph, as Mermaid text, and the status of each activity in it."""
    return respond(await engine.drawn(reference, actor))


@router.get("/{reference}/undo-plan", dependencies=[may("saga.read")])
async def undo_plan(reference: str, engine: EngineOf, actor: Acting) -> Response:
    """What a turn back would undo now, in order, and what cannot be undone."""
    return respond(await engine.undo_plan(reference, actor))


@router.post("/{reference}/cancel", dependencies=[may("saga.cancel")])
async def cancel(reference: str, body: CancelBody, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Asks the saga to turn back."""

    async def work() -> Response:
        saga = await engine.saga(reference, actor)
        return respond(await engine.cancel(saga.saga_id, actor, body.reason, message_id=key_of(request) or ""))

    return await once(request, actor, engine.answers, work)


@router.post("/{reference}/{act}", dependencies=[may("saga.operate")])
async def operate(
    reference: str, act: str, body: ActBody, request: Request, engine: EngineOf, actor: Acting
) -> Response:
    """An operator's act on a stuck place: retry, value, done, not-done, skip, take-over, give-back or settle."""
    if act not in ACTS:
        raise ProblemError("no_route", f"There is no act {act[:40]!r}; there are cancel, {', '.join(ACTS)}.")

    async def work() -> Response:
        saga = await engine.saga(reference, actor)
        return respond(
            await engine.operate(
                saga.saga_id,
                ACTS[act],
                body.place,
                body.version,
                actor,
                body.reason,
                data=body.data,
                outcome=body.outcome,
                message_id=key_of(request) or "",
            )
        )

    return await once(request, actor, engine.answers, work)
