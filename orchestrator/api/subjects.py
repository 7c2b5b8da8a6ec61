"""Routes of persons whose data sagas hold: requests to erase them, and legal holds (ADR 61)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.api.engine import Acting, EngineOf, may
from orchestrator.api.idempotency import once
from orchestrator.api.shapes import respond
from orchestrator.api.views import RefusedError
from orchestrator.vault.erasing import Erasing, ErasureRefusedError

router = APIRouter(prefix="/v1/subjects", tags=["subjects"])

Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
RequestName = Annotated[str, Path(min_length=1, max_length=200)]


class EraseBody(BaseModel):
    """Who is to be erased, under which request, and why. `saga`: `subject` is the id of a saga without a customer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: Text
    request: Text
    reason: Text
    saga: bool = False


class ConfirmBody(BaseModel):
    """Whom the second person means, as in whatever was asked by: refused where the request stands for somebody else."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: Annotated[str, Field(max_length=200)] = ""
    saga: bool = False


class HoldBody(BaseModel):
    """A legal hold; without a reason it ends."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: Text
    reason: Annotated[str, Field(max_length=200)] = ""


def erasing(engine: EngineOf) -> Erasing:
    """What erases. Raises RefusedError where no vault is set up."""
    if engine.erasing is None:
        raise RefusedError("not_found", "No vault is set up here: ORCHESTRATOR_VAULT_KEY_FILE names its keys.")
    return engine.erasing


@router.get("/erasures", dependencies=[may("subject.read")])
async def list_erasures(engine: EngineOf, actor: Acting) -> Response:
    """Requests to erase somebody, newest first."""
    return respond({"items": await erasing(engine).all(actor.tenant)})


@router.post("/erasures", dependencies=[may("subject.erase")])
async def erase(body: EraseBody, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Asks for somebody to be erased; where one person is enough, it is done. The same request again confirms it."""

    async def work() -> Response:
        try:
            found = await erasing(engine).ask(
                actor.tenant, body.subject, body.request, body.reason, actor.id, saga=body.saga
            )
        except ErasureRefusedError as error:
            raise refused(error) from None
        return respond(found)

    return await once(request, actor, engine.answers, work)


@router.get("/erasures/{name}", dependencies=[may("subject.read")])
async def one_erasure(name: RequestName, engine: EngineOf, actor: Acting) -> Response:
    """A request, and the sagas that it concerns."""
    try:
        found, sagas = await erasing(engine).one(actor.tenant, name)
    except ErasureRefusedError as error:
        raise refused(error) from None
    return respond({"erasure": found, "sagas": sagas})


@router.post("/erasures/{name}/confirm", dependencies=[may("subject.erase")])
async def confirm(
    name: RequestName, request: Request, engine: EngineOf, actor: Acting, body: ConfirmBody | None = None
) -> Response:
    """A second person confirms a request, and it is done: nothing of it can be taken back."""
    whom = body or ConfirmBody()

    async def work() -> Response:
        try:
            return respond(
                await erasing(engine).confirm(actor.tenant, name, actor.id, subject=whom.subject, saga=whom.saga)
            )
        except ErasureRefusedError as error:
            raise refused(error) from None

    return await once(request, actor, engine.answers, work)


@router.get("/holds", dependencies=[may("subject.read")])
async def list_holds(engine: EngineOf, actor: Acting) -> Response:
    """Legal holds, newest first, with the sagas that each protects."""
    found = await erasing(engine).holds(actor.tenant)
    return respond({"items": [{"hold": hold, "sagas": sagas} for hold, sagas in found]})


@router.post("/holds", dependencies=[may("subject.erase")])
async def hold(body: HoldBody, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Puts somebody under a legal hold, or ends it."""

    async def work() -> Response:
        try:
            keys = await erasing(engine).hold(actor.tenant, body.subject, body.reason, actor.id)
        except ErasureRefusedError as error:
            raise refused(error) from None
        if not keys:
            raise RefusedError("not_found", "Nothing is sealed under a key of this person.")
        return respond({"keys": keys, "held": bool(body.reason)})

    return await once(request, actor, engine.answers, work)


def refused(error: ErasureRefusedError) -> RefusedError:
    """The same refusal in the words of HTTP."""
    return RefusedError(error.refusal.code, error.refusal.text, error.refusal.facts)
