"""Routes of tasks: what people are asked to decide. A decision is authorised and committed in its request."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.api.engine import Acting, EngineOf, may
from orchestrator.api.idempotency import key_of, once
from orchestrator.api.problems import ProblemError
from orchestrator.api.shapes import respond
from orchestrator.api.views import RefusedError

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])

PAGE_ITEMS_MAX = 500


class DecideBody(BaseModel):
    """One person's decision. `form`: the task's form without its outcome. `subjectHash`: of what was shown to them.

    Who decides, when and with which roles is never taken from here.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    outcome: Annotated[str, Field(min_length=1, max_length=100)]
    form: dict[str, Any] = Field(default_factory=dict)
    reason: Annotated[str, Field(max_length=2_000)] = ""
    subject_hash: Annotated[str, Field(alias="subjectHash", max_length=200)] = ""


@router.get("", dependencies=[may("task.read")])
async def list_tasks(
    engine: EngineOf,
    actor: Acting,
    state: Literal["open", "decided", "expired", "withdrawn", "all"] = "open",
    saga: Annotated[str | None, Query(max_length=500)] = None,
    mine: bool = False,
    limit: Annotated[int, Query(ge=1, le=PAGE_ITEMS_MAX)] = 50,
    cursor: Annotated[str | None, Query(max_length=500)] = None,
) -> Response:
    """Tasks, the one due first first. `saga`: an id or business key. `mine`: those that this actor may decide."""
    saga_id = (await engine.saga(saga, actor)).saga_id if saga else None
    page = await engine.task_page(
        actor, state=None if state == "all" else state, saga_id=saga_id, mine=mine, limit=limit, cursor=cursor or ""
    )
    return respond(page)


@router.get("/{task_id}", dependencies=[may("task.read")])
async def show(task_id: str, engine: EngineOf, actor: Acting) -> Response:
    """One task: what is shown, its hash, who may decide, the votes so far."""
    task = await engine.task(task_id)
    if task is None:
        raise RefusedError("not_found", f"There is no task {task_id[:80]!r}.")
    return respond(task)


@router.post("/{task_id}/decide", dependencies=[may("task.decide")])
async def decide(task_id: str, body: DecideBody, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Votes on a task. The answer says whether the vote settled it."""
    if not body.subject_hash:
        raise ProblemError("subject_missing", "Send subjectHash: the hash of the task as it was shown.")

    async def work() -> Response:
        answer = {**body.form, "outcome": body.outcome}
        voted = await engine.vote(
            task_id, answer, body.subject_hash, actor, reason=body.reason, message_id=key_of(request) or ""
        )
        return respond(voted)

    return await once(request, actor, engine.answers, work)
