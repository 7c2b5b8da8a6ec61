"""Routes of dead letters: messages that nobody could process, kept with their bytes and the reason."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from orchestrator.api.engine import Acting, EngineOf, may
from orchestrator.api.idempotency import once
from orchestrator.api.sagas import CancelBody as ReasonBody
from orchestrator.api.shapes import respond

router = APIRouter(prefix="/v1/letters", tags=["letters"])

LetterId = Annotated[int, Path(ge=1, le=2**53)]


@router.get("", dependencies=[may("letter.read")])
async def list_letters(
    engine: EngineOf,
    actor: Acting,
    reason: Annotated[str | None, Query(max_length=100)] = None,
    redriven: bool | None = False,
    limit: Annotated[int, Query(ge=1, le=500)] = 50,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """Dead letters, newest first."""
    return respond(await engine.letters(actor, reason=reason, redriven=redriven, limit=limit, cursor=cursor or ""))


@router.get("/{letter_id}", dependencies=[may("letter.read")])
async def show(letter_id: LetterId, engine: EngineOf, actor: Acting) -> Response:
    """One dead letter with its bytes and headers."""
    return respond(await engine.letter(letter_id, actor))


@router.post("/{letter_id}/redrive", status_code=202, dependencies=[may("letter.redrive")])
async def redrive(letter_id: LetterId, body: ReasonBody, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Sends the message again under its own id; it passes the same checks as any other."""

    async def work() -> Response:
        return respond(await engine.redrive(letter_id, actor, body.reason), 202)

    return await once(request, actor, engine.answers, work)
