"""Routes of a task's life beside its decision: claim, release, delegate, reassign, comment, link.

Every act is one form, one record and one redirect to the task's page at or after it. A refusal is that page again.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from orchestrator.api.engine import Acting, Engine, EngineOf, may
from orchestrator.api.views import Actor, RefusedError, TaskView
from orchestrator.pages.deciding import _path as path_of
from orchestrator.pages.reading_forms import SentForm, form_of
from orchestrator.pages.site import office_router
from orchestrator.pages.task_pages import Typed, draft_of, status_of, task_page

router = office_router()


@router.post("/tasks/{task_id}/claim", dependencies=[may("task.work")])
async def claim(task_id: str, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Tells the others of the group that one is at it. From the inbox, back to it."""
    form = await form_of(request)
    act = engine.desk.claim(task_id, actor)
    if "view" in form.values:
        await act
        return RedirectResponse(f"/office/inbox?{form.one('view')[:1500]}&after=1", 303)
    return await _done(request, engine, actor, task_id, act, "claimed")


@router.post("/tasks/{task_id}/release", dependencies=[may("task.work")])
async def release(task_id: str, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Gives a claim back."""
    form = await form_of(request)
    act = engine.desk.release(task_id, actor, reason=form.one("reason"))
    return await _done(request, engine, actor, task_id, act, "released")


@router.post("/tasks/{task_id}/delegate", dependencies=[may("task.work")])
async def delegate(task_id: str, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Lets a substitute decide this one task, until a time."""
    form = await form_of(request)
    until = _until(form, request)
    act = engine.desk.delegate(task_id, actor, form.one("to").strip(), until, form.one("reason"))
    return await _done(request, engine, actor, task_id, act, "delegated")


@router.post("/tasks/{task_id}/reassign", dependencies=[may("task.reassign")])
async def reassign(task_id: str, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Asks other people instead."""
    form = await form_of(request)
    people = [name.strip() for name in form.one("to").split(",") if name.strip()]
    act = engine.desk.reassign(task_id, actor, people, form.one("reason"))
    return await _done(request, engine, actor, task_id, act, "reassigned")


@router.post("/tasks/{task_id}/comment", dependencies=[may("task.work")])
async def comment(task_id: str, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Says something, or rewrites what one has said; the earlier words stay in the history."""
    form = await form_of(request)
    number = form.one("replaces")
    replaces = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else None
    act = engine.desk.comment(task_id, actor, form.one("text").replace("\r\n", "\n"), replaces, message_id=_key(form))
    return await _done(request, engine, actor, task_id, act, "commented")


@router.post("/tasks/{task_id}/attach", dependencies=[may("task.work")])
async def attach(task_id: str, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Attaches a link."""
    form = await form_of(request)
    act = engine.desk.attach(task_id, actor, form.one("url").strip(), form.one("title").strip())
    return await _done(request, engine, actor, task_id, act, "attached")


async def _done(
    request: Request, engine: Engine, actor: Actor, task_id: str, act: Awaitable[TaskView], words: str
) -> Response:
    try:
        await act
    except RefusedError as error:
        task = await engine.desk.view(task_id, actor)
        kept = await draft_of(engine, actor, task)
        typed = Typed(kept.outcome, kept.reason, kept.values, kept.seen, refusal=error)
        return await task_page(request, engine, actor, task, typed, status=status_of(error))
    return RedirectResponse(f"/office/tasks/{path_of(task_id)}?done={words}&after=1", 303)


def _key(form: SentForm) -> str:
    return form.one("key")[:100]


def _until(form: SentForm, request: Request) -> datetime | None:
    """A time that was typed in the reader's zone; None where none was."""
    text = form.one("until").strip()
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise RefusedError("invalid", "Until: a date and a time, like 2026-01-31T17:00.") from error
    zone = ZoneInfo(request.state.profile.zone)
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
