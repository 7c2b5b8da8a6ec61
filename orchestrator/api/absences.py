"""Routes of absences: who stands in for whom while somebody is away."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from fastapi.responses import Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from orchestrator.api.engine import Acting, EngineOf, may
from orchestrator.api.shapes import respond

router = APIRouter(prefix="/v1/substitutions", tags=["tasks"])


class SubstitutionBody(BaseModel):
    """`substitute`: who stands in. For whom is never taken from here: everybody arranges their own absence."""

    model_config = ConfigDict(extra="forbid")

    substitute: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
    until: AwareDatetime
    since: AwareDatetime | None = None
    reason: Annotated[str, Field(max_length=2_000)] = ""


@router.get("", dependencies=[may("task.work")])
async def list_substitutions(engine: EngineOf, actor: Acting, everybody: bool = False) -> Response:
    """Those in which this person takes part, newest first; with `everybody` all, for operators."""
    return respond({"items": list(await engine.desk.substitutions(actor, everybody=everybody))})


@router.post("", status_code=201, dependencies=[may("task.work")])
async def arrange(body: SubstitutionBody, engine: EngineOf, actor: Acting) -> Response:
    """While this person is away somebody decides in their place, with their rights of now and no others."""
    made = await engine.desk.substitute(actor, body.substitute, until=body.until, since=body.since, reason=body.reason)
    return respond(made, 201)


@router.delete("/{number}", status_code=204, dependencies=[may("task.work")])
async def take_back(number: int, engine: EngineOf, actor: Acting) -> Response:
    """Ends it before its time: one's own, or an operator anybody's."""
    await engine.desk.end_substitution(actor, number)
    return Response(status_code=204)
