"""Routes of tasks: what people are asked to decide. An act is authorised and committed in its request.

Rules of this file
- Who acts, when and with which roles is never taken from a body. Every act answers with the task as it is then.
- With `Idempotency-Key` an act is done once, also when the first answer was lost.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from fastapi.responses import Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from orchestrator.api.engine import Acting, Engine, EngineOf, may
from orchestrator.api.idempotency import key_of, once
from orchestrator.api.problems import ProblemError
from orchestrator.api.shapes import respond
from orchestrator.api.views import Actor, TaskView

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])

PAGE_ITEMS_MAX = 500


class DecideBody(BaseModel):
    """One person's decision. `form`: the task's form without its outcome. `subjectHash`: of what was shown to them.

    `onBehalfOf`: by whose right, one of the task's `mayDecideFor`; left out, one's own where it suffices. Who decides,
    when and with which roles is never taken from here.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    outcome: Annotated[str, Field(min_length=1, max_length=100)]
    form: dict[str, Any] = Field(default_factory=dict)
    reason: Annotated[str, Field(max_length=2_000)] = ""
    subject_hash: Annotated[str, Field(alias="subjectHash", max_length=200)] = ""
    on_behalf_of: Annotated[str, Field(alias="onBehalfOf", max_length=200)] = ""


class StrictBody(BaseModel):
    """What is not named here is refused."""

    model_config = ConfigDict(extra="forbid")


Reason = Annotated[str, Field(max_length=2_000)]
PersonId = Annotated[str, Field(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class ReleaseBody(StrictBody):
    """Why a claim ends; needed of nobody."""

    reason: Reason = ""


class DelegateBody(StrictBody):
    """`to`: the substitute, "" takes it back. `until`: when that ends, else with the task."""

    to: PersonId
    until: AwareDatetime | None = None
    reason: Reason = ""


class ReassignBody(StrictBody):
    """`to`: people by id, and roles as `role:manager`."""

    to: Annotated[list[Annotated[PersonId, Field(min_length=1)]], Field(min_length=1, max_length=50)]
    reason: Annotated[str, Field(min_length=1, max_length=2_000)]


class CommentBody(StrictBody):
    """`replaces`: the id of an own comment that is rewritten; what it said before stays in its history."""

    text: Annotated[str, Field(min_length=1, max_length=4_000)]
    replaces: Annotated[int, Field(ge=1)] | None = None


class AttachBody(StrictBody):
    """A link, https only."""

    url: Annotated[str, Field(min_length=1, max_length=2_000)]
    title: Annotated[str, Field(min_length=1, max_length=200)]


class DraftBody(StrictBody):
    """The form as far as it is filled in; {} drops the draft. `subjectHash`: of what was shown meanwhile."""

    form: dict[str, Any]
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
    return respond(await engine.desk.view(task_id, actor))


@router.post("/{task_id}/decide", dependencies=[may("task.decide")])
async def decide(task_id: str, body: DecideBody, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Votes on a task. The answer says whether the vote settled it."""
    if not body.subject_hash:
        raise ProblemError("subject_missing", "Send subjectHash: the hash of the task as it was shown.")

    async def work() -> Response:
        answer = {**body.form, "outcome": body.outcome}
        voted = await engine.vote(
            task_id,
            answer,
            body.subject_hash,
            actor,
            reason=body.reason,
            on_behalf_of=body.on_behalf_of,
            message_id=key_of(request) or "",
        )
        return respond(voted)

    return await once(request, actor, engine.answers, work)


Work = Callable[[str], Awaitable[TaskView]]  # by the id of the request, "" where it has none


async def _once(request: Request, engine: Engine, actor: Actor, work: Work) -> Response:
    async def answered() -> Response:
        return respond(await work(key_of(request) or ""))

    return await once(request, actor, engine.answers, answered)


@router.post("/{task_id}/claim", dependencies=[may("task.work")])
async def claim(task_id: str, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Says who works on it. It keeps nobody else from deciding."""
    return await _once(request, engine, actor, lambda id: engine.desk.claim(task_id, actor, message_id=id))


@router.post("/{task_id}/release", dependencies=[may("task.read")])
async def release(task_id: str, body: ReleaseBody, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Ends a claim: one's own, or an operator anybody's."""
    reason = body.reason
    return await _once(
        request, engine, actor, lambda id: engine.desk.release(task_id, actor, reason=reason, message_id=id)
    )


@router.post("/{task_id}/delegate", dependencies=[may("task.work")])
async def delegate(task_id: str, body: DelegateBody, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Names a substitute, who gains no right."""

    async def work(id: str) -> TaskView:
        return await engine.desk.delegate(task_id, actor, body.to, body.until, body.reason, message_id=id)

    return await _once(request, engine, actor, work)


@router.post("/{task_id}/reassign", dependencies=[may("task.reassign")])
async def reassign(task_id: str, body: ReassignBody, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Asks other people instead."""

    async def work(id: str) -> TaskView:
        return await engine.desk.reassign(task_id, actor, body.to, body.reason, message_id=id)

    return await _once(request, engine, actor, work)


@router.post("/{task_id}/comments", dependencies=[may("task.work")])
async def comment(task_id: str, body: CommentBody, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Says something about it, or rewrites what one has said."""

    async def work(id: str) -> TaskView:
        return await engine.desk.comment(task_id, actor, body.text, body.replaces, message_id=id)

    return await _once(request, engine, actor, work)


@router.post("/{task_id}/attachments", dependencies=[may("task.work")])
async def attach(task_id: str, body: AttachBody, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Attaches a link."""

    async def work(id: str) -> TaskView:
        return await engine.desk.attach(task_id, actor, body.url, body.title, message_id=id)

    return await _once(request, engine, actor, work)


@router.get("/{task_id}/draft", dependencies=[may("task.work")])
async def draft(task_id: str, engine: EngineOf, actor: Acting) -> Response:
    """What this person saved and did not send; `draft` is null where there is none."""
    return respond({"draft": await engine.desk.draft(task_id, actor)})


@router.put("/{task_id}/draft", dependencies=[may("task.work")])
async def save_draft(task_id: str, body: DraftBody, engine: EngineOf, actor: Acting) -> Response:
    """Keeps what this person has filled in, in place of what was kept before."""
    return respond(await engine.desk.save_draft(task_id, actor, body.form, subject_hash=body.subject_hash))
