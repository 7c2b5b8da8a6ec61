"""Routes of definitions: their versions, what differs, how live sagas would fare, and asking for one (ADR 67)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.activation.asking import Asking
from orchestrator.api.engine import Acting, EngineOf, may
from orchestrator.api.idempotency import key_of, once
from orchestrator.api.shapes import respond
from orchestrator.definition.draw import difference

router = APIRouter(prefix="/v1/definitions", tags=["definitions"])

Name = Annotated[str, Path(min_length=1, max_length=200)]
Version = Annotated[int, Path(ge=1, le=1_000_000)]
Before = Annotated[int, Query(alias="from", ge=1, le=1_000_000)]
After = Annotated[int, Query(alias="to", ge=1, le=1_000_000)]


class AskBody(BaseModel):
    """Why a version shall take new sagas."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: Annotated[str, Field(min_length=1, max_length=2_000, pattern=r"\S")]


def asking_of(request: Request) -> Asking:
    """What knows of versions, of the application that serves this request."""
    found: Asking = request.app.state.asking
    return found


AskingOf = Annotated[Asking, Depends(asking_of)]


@router.get("/{name}", dependencies=[may("definition.read")])
async def show(name: Name, asking: AskingOf, actor: Acting) -> Response:
    """Every version of a definition: state, hash, who deployed it, live sagas; every activation; what waits."""
    return respond(await asking.standing(actor, name))


@router.get("/{name}/diff", dependencies=[may("definition.read")])
async def diff(name: Name, asking: AskingOf, actor: Acting, before: Before, after: After) -> Response:
    """What differs between two versions, in words."""
    lines = difference(await asking.graph(name, before), await asking.graph(name, after))
    return respond({"name": name, "from": before, "to": after, "changes": lines})


@router.get("/{name}/preflight", dependencies=[may("saga.read")])
async def preflight(name: Name, asking: AskingOf, actor: Acting, before: Before, after: After) -> Response:
    """How live sagas of one version would fare on another."""
    found = await asking.preflight(actor, name, before, after)
    places = [
        {"verdict": verdict, "node": node, "sagas": count, "changes": found.flight.words[node]}
        for (verdict, node), count in found.flight.at.most_common()
    ]
    return respond({"name": name, "from": before, "to": after, "said": found.sentence(), "places": places})


@router.post("/{name}/{version}/activation", status_code=202, dependencies=[may("definition.activate")])
async def ask(
    name: Name, version: Version, body: AskBody, request: Request, asking: AskingOf, engine: EngineOf, actor: Acting
) -> Response:
    """Asks that a version takes new sagas: an approval task for somebody else. Going back is asked for likewise."""

    async def work() -> Response:
        started = await asking.ask(actor, name, version, body.reason, message_id=key_of(request) or "")
        task = await asking.task(started.saga_id)
        return respond(
            {"name": name, "version": version, "sagaId": started.saga_id, "taskId": task.id if task else None}, 202
        )

    return await once(request, actor, engine.answers, work)
