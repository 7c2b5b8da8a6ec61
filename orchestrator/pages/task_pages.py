"""Routes of one task: its page, its live part, and the page after something was refused.

Rules of this file
- A page for a task is the same page whatever happened: a refusal stands on top of it, with the rule's name, what was
  typed stays where it was, and the status says what it is.
- Looking changes nothing: a GET, a HEAD or a prefetch decides and records nothing (links in mails lead here).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import quote, urlencode

from fastapi import Query, Request
from fastapi.responses import Response

from orchestrator.api import acts
from orchestrator.api.engine import Acting, Engine, EngineOf, may
from orchestrator.api.problems import PROBLEMS
from orchestrator.api.views import Actor, RefusedError, TaskView
from orchestrator.pages.consequences import Consequence
from orchestrator.pages.forms import Wrong, fields_of, reason_is_required
from orchestrator.pages.inbox import gone_words
from orchestrator.pages.previews import consequences
from orchestrator.pages.second_look import is_asked
from orchestrator.pages.site import office_router, page
from orchestrator.pages.subject import amount_of, facts_of, party_of, title
from orchestrator.pages.task_facts import Change, changes, history_of, shown_by

router = office_router()

DONE_WORDS = {
    "voted": "Your vote is recorded.",
    "decided": "Your decision is recorded.",
    "claimed": "You hold this task now.",
    "released": "Nobody holds this task now.",
    "delegated": "The task is delegated.",
    "reassigned": "The task is asked of others now.",
    "commented": "Your comment is recorded.",
    "attached": "The link is attached.",
}


@dataclass(frozen=True, slots=True)
class Typed:
    """What somebody had typed when they were told no, or what they saved as a draft."""

    outcome: str = ""
    reason: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    seen: str = ""  # the hash of what they saw
    wrong: Sequence[Wrong] = ()
    refusal: RefusedError | None = None
    saved: str = ""
    behalf: str = ""  # by whose right, "" where it was not said


@router.get("/tasks/{task_id}", dependencies=[may("task.read")])
async def show(
    task_id: str, request: Request, engine: EngineOf, actor: Acting, done: Annotated[str, Query(max_length=20)] = ""
) -> Response:
    """One task. `done`: what was just recorded; the page is at or after it."""
    task = await engine.desk.view(task_id, actor)
    return await task_page(request, engine, actor, task, await draft_of(engine, actor, task), done=done)


@router.get("/tasks/{task_id}/now", dependencies=[may("task.read")])
async def now(
    task_id: str, request: Request, engine: EngineOf, actor: Acting,
    seen: Annotated[str, Query(max_length=200)] = "", votes: Annotated[int, Query(ge=0)] = 0,
) -> Response:  # fmt: skip
    """The live part: whether what the page was made of is still so."""
    task = await engine.desk.view(task_id, actor)
    return page(
        request, actor, "tasks/now.html",
        task=task, seen=seen, votes=votes, moved=_moved(task, seen, votes), gone=gone_words(task),
    )  # fmt: skip


async def draft_of(engine: Engine, actor: Actor, task: TaskView) -> Typed:
    """What this person saved and did not send."""
    draft = await engine.desk.draft(task.id, actor) if task.state == "open" else None
    if draft is None:
        return Typed()
    values = {str(name): str(value) for name, value in draft.form.items()}
    return Typed(
        outcome=values.pop("outcome", ""), reason=values.pop("reason", ""), values=values, seen=draft.subject_hash,
        saved=draft.saved_at.isoformat(),
    )  # fmt: skip


async def task_page(
    request: Request, engine: Engine, actor: Actor, task: TaskView, typed: Typed, *, done: str = "", status: int = 200
) -> Response:
    """The page of a task, with what was typed and why it was refused."""
    case = await request.app.state.cases.of(actor.tenant, task)
    found = consequences(case, task, task.activity, actor, acts.received_at(request.app.state.runtime))
    records = await engine.records(task.saga_id, actor)
    changed: Sequence[Change] = ()
    if typed.seen and typed.seen != task.subject_hash:
        changed = changes(shown_by(records, task.activity, typed.seen), task.shown)
    return page(
        request, actor, "tasks/show.html", status=status,
        task=task, headline=title(task.activity).capitalize(), about=party_of(task.shown),
        facts=facts_of(task.shown), amount=amount_of(task.shown, task.amount),
        consequences=[each for each in found if each.outcome], expiry=_expiry(found),
        fields=fields_of(task.form_schema), reason_required=reason_is_required(task.form_schema),
        history=history_of(records, task.activity), undo_plan=[title(name) for name in case.undo_plan],
        typed=typed, changed=changed, problem=_problem(typed), form_key=secrets.token_urlsafe(18),
        done=DONE_WORDS.get(done, ""), gone=gone_words(task), seen=task.subject_hash, votes=len(task.votes),
        moved="", sign_in_again=_sign_in_again(request, task), steers=engine.desk.steers(actor),
        second_look=is_asked(case, task, request.app.state.runtime.settings.confirm_amount),
        can_see_saga="/office/sagas" in request.app.state.office_paths,
    )  # fmt: skip


def status_of(error: RefusedError) -> int:
    """The HTTP status of a refusal."""
    return PROBLEMS[error.code].status if error.code in PROBLEMS else 500


def _problem(typed: Typed) -> Any:
    return PROBLEMS.get(typed.refusal.code) if typed.refusal is not None else None


def _expiry(found: Sequence[Consequence]) -> Consequence | None:
    return next((each for each in found if not each.outcome), None)


def _moved(task: TaskView, seen: str, votes: int) -> str:
    """What is not any more as the page has it, in words; "" where all is."""
    if task.state != "open":
        return gone_words(task)
    if seen and task.subject_hash != seen:
        return "changed"
    return "voted" if len(task.votes) != votes else ""


def _sign_in_again(request: Request, task: TaskView) -> str:
    """Where somebody shows anew who they are, and comes back to this task."""
    back = urlencode({"next": f"/office/tasks/{quote(task.id, safe=':~')}", "fresh": "true"})
    provider = "/office/login/provider"
    has_provider = request.app.state.identity.provider is not None
    return f"{provider}?{back}" if has_provider else f"/office/login?{back}"
