"""Routes that decide: the vote, the page between that repeats it, and the draft that is none yet.

Rules of this file
- A form carries the hash of what it showed and a key of its own: a double click, a reload or a second attempt after a
  lost answer is one record. A form without the hash decides nothing.
- An outcome that sets something going that cannot be undone is confirmed on a page of its own, which repeats in full
  what follows. So is every outcome of a task for which the definition or a setting asks for it (second_look.py).
- A refusal is the task's page again, with its status, the rule in words, and everything that was typed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from orchestrator.api import acts
from orchestrator.api.engine import Acting, Engine, EngineOf, may
from orchestrator.api.shapes import respond
from orchestrator.api.views import Actor, RefusedError, TaskView
from orchestrator.pages.consequences import Consequence
from orchestrator.pages.forms import Wrong, fields_of, has_reason, read_form, reason_is_required
from orchestrator.pages.previews import consequences
from orchestrator.pages.reading_forms import SentForm, form_of
from orchestrator.pages.second_look import is_asked
from orchestrator.pages.site import office_router, page
from orchestrator.pages.subject import amount_of, facts_of, party_of, title
from orchestrator.pages.task_pages import Typed, status_of, task_page

REASON_MAX = 2_000
BEHALF_MAX = 200

router = office_router()


@router.post("/tasks/{task_id}/decide", dependencies=[may("task.decide")])
async def decide(task_id: str, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Votes, or asks for a confirmation first."""
    form = await form_of(request)
    task = await engine.desk.view(task_id, actor)
    typed, answer = _typed(task, form)
    if typed.wrong and task.state == "open":
        return await task_page(request, engine, actor, task, typed, status=422)
    if task.state == "open" and typed.seen == task.subject_hash and form.one("confirmed") != "yes":
        sentence = await _to_confirm(request, task, actor, answer)
        if sentence is not None:
            await _keep(engine, actor, task, typed)  # so that nothing is lost on the way back
            return _confirm_page(request, actor, task, typed, sentence, form)
    return await _vote(request, engine, actor, task, typed, answer, form.one("key"))


async def _vote(
    request: Request, engine: Engine, actor: Actor, task: TaskView, typed: Typed, answer: Mapping[str, Any], key: str
) -> Response:
    try:
        voted = await engine.vote(
            task.id, answer, typed.seen, actor, reason=typed.reason, on_behalf_of=typed.behalf, message_id=key[:100]
        )
    except RefusedError as error:
        if error.code == "reauth":
            await _keep(engine, actor, task, typed)  # they come back to it signed in anew
        refused = replace(typed, wrong=_wrong_of(error), refusal=error)
        task = await engine.desk.view(task.id, actor)
        return await task_page(request, engine, actor, task, refused, status=status_of(error))
    done = "decided" if voted.decided else "voted"
    return RedirectResponse(f"/office/tasks/{_path(task.id)}?done={done}&after={voted.record}", 303)


@router.post("/tasks/{task_id}/draft", dependencies=[may("task.work")])
async def save_draft(task_id: str, request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Keeps what is typed, whether it is right or not. A script asks for JSON; a person gets the page again."""
    form = await form_of(request)
    task = await engine.desk.view(task_id, actor)
    await _keep(engine, actor, task, _typed(task, form)[0])
    if "application/json" in request.headers.get("accept", ""):
        return respond({"saved": datetime.now(UTC).strftime("%H:%M:%S UTC")})
    return RedirectResponse(f"/office/tasks/{_path(task_id)}", 303)


async def _keep(engine: Engine, actor: Actor, task: TaskView, typed: Typed) -> None:
    draft = {"outcome": typed.outcome, "reason": typed.reason, **typed.values}
    draft = {name: text for name, text in draft.items() if text}
    await engine.desk.save_draft(task.id, actor, draft, subject_hash=typed.seen)


def _typed(task: TaskView, form: SentForm) -> tuple[Typed, dict[str, Any]]:
    """What was typed, what is wrong with it, and the form's JSON."""
    fields = fields_of(task.form_schema)
    values = {field.name: form.one(field.name) for field in fields}
    outcome, reason = form.one("outcome"), form.one("reason").replace("\r\n", "\n")
    data, wrong = read_form(fields, values)
    if outcome not in task.outcomes:
        wrong.insert(0, Wrong("outcome", "Choose what you decide."))
    if len(reason) > REASON_MAX:
        wrong.append(Wrong("reason", f"Reason: at most {REASON_MAX} characters; these are {len(reason)}."))
    if not reason.strip() and (reason_is_required(task.form_schema) or needs_reason(task, outcome)):
        wrong.append(Wrong("reason", "Reason: say why; whoever asked reads it."))
    answer = {**data, "outcome": outcome, **({"reason": reason} if has_reason(task.form_schema) else {})}
    return Typed(outcome, reason, values, form.one("seen"), wrong, behalf=form.one("on_behalf_of")[:BEHALF_MAX]), answer


def needs_reason(task: TaskView, outcome: str) -> bool:
    """A plain no is never without a reason."""
    return outcome == "reject" and set(task.outcomes) == {"approve", "reject"}


def _wrong_of(error: RefusedError) -> Sequence[Wrong]:
    return [Wrong("", error.text)] if error.code == "invalid" else ()


async def _to_confirm(request: Request, task: TaskView, actor: Actor, answer: Mapping[str, Any]) -> Consequence | None:
    """What the answer would lead to, where that must be confirmed first."""
    case = await request.app.state.cases.of(actor.tenant, task)
    runtime = request.app.state.runtime
    found = consequences(case, task, task.activity, actor, acts.received_at(runtime), answer)
    chosen = next((each for each in found if each.outcome == answer["outcome"]), None)
    if chosen is None:
        return None
    return chosen if chosen.irrevocable or is_asked(case, task, runtime.settings.confirm_amount) else None


def _confirm_page(
    request: Request, actor: Actor, task: TaskView, typed: Typed, consequence: Consequence, form: SentForm
) -> Response:
    fields = fields_of(task.form_schema)
    return page(
        request, actor, "tasks/confirm.html",
        task=task, typed=typed, consequence=consequence, key=form.one("key"),
        headline=title(task.activity).capitalize(),
        facts=facts_of(task.shown), amount=amount_of(task.shown, task.amount), about=party_of(task.shown),
        filled=[(field, typed.values[field.name]) for field in fields],
    )  # fmt: skip


def _path(task_id: str) -> str:
    return task_id.replace("%", "%25").replace("#", "%23").replace("?", "%3F")
