"""What needs work: stuck sagas by cause, undos that failed, dead letters, and events that came too early.

Rules of this file
- Thirty sagas that are stuck for one reason are one line. A retry of all of them acts on a list that was frozen when it
  was previewed, one record each, and says of each what became of it: recorded is not solved.
- A dead letter is shown safely: as text only where it is text, with odd characters marked, else as bytes in hex.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Annotated, Any
from uuid import uuid4

from fastapi import Path, Query, Request
from fastapi.responses import RedirectResponse, Response

from orchestrator.api.engine import Acting, Engine, EngineOf, may
from orchestrator.api.problems import ProblemError
from orchestrator.api.times import instant
from orchestrator.api.views import Actor, LetterView, RefusedError
from orchestrator.identity.rules import may as is_allowed
from orchestrator.pages.drawing.raw import HEX_BYTES_MAX, hex_lines
from orchestrator.pages.drawing.spans import span
from orchestrator.pages.reading import Cause, Office, OfficeOf
from orchestrator.pages.reading_forms import SentForm, form_of
from orchestrator.pages.saga_words import state_of
from orchestrator.pages.site import office_router, page, query_text
from orchestrator.store.operations import COUNTED_MAX

router = office_router()

TABS = {"stuck": "Stuck", "undo": "Undo failed", "letters": "Dead letters", "early": "Early events"}
RETRIED_MAX = 100  # of one cause at once
SETTLE_SECONDS_MAX = 2.0
REASON_CHARACTERS_MAX = 2_000

Word = Annotated[str, Query(max_length=500)]
LetterId = Annotated[int, Path(ge=1, le=2**53)]


@router.get("/operations", dependencies=[may("letter.read")])
async def operations(
    request: Request,
    engine: EngineOf,
    office: OfficeOf,
    actor: Acting,
    tab: Word = "stuck",
    redriven: bool = False,
    reason: Word = "",
    cursor: Word = "",
) -> Response:
    """The work of operators."""
    tab = tab if tab in TABS else "stuck"
    causes, is_all = await office.causes(actor)
    facts: dict[str, Any] = {"next": ""}
    if tab in ("stuck", "undo"):
        facts["causes"] = [cause for cause in causes if cause.is_undo == (tab == "undo")]
    elif tab == "letters":
        found = await engine.letters(actor, reason=reason or None, redriven=redriven, limit=50, cursor=cursor)
        facts |= {"letters": found.items, "redriven": redriven, "reason": reason}
        facts["next"] = query_text(tab=tab, redriven=redriven, reason=reason, cursor=found.next) if found.next else ""
    else:
        events, following = await office.early(actor, cursor)
        lapse = timedelta(milliseconds=office.settings.early_age_ms)
        facts["events"] = [(event, office.waiters(event.type)) for event in events]
        facts |= {"lapse": lapse, "at": instant, "next": query_text(tab=tab, cursor=following) if following else ""}
    return page(
        request,
        actor,
        "operations/page.html",
        tab=tab,
        tabs=await _tabs(office, actor, causes, tab),
        is_all=is_all,
        first=query_text(tab=tab) if cursor else "",
        may_operate=is_allowed(actor, "saga.operate"),
        span=span,
        **facts,
    )


@router.get("/operations/tabs", dependencies=[may("letter.read")])
async def tabs(request: Request, office: OfficeOf, actor: Acting, tab: Word = "stuck") -> Response:
    """The tabs with their counts, as they are now: the part of the page that follows what happens."""
    causes, _ = await office.causes(actor)
    tab = tab if tab in TABS else "stuck"
    return page(request, actor, "operations/_tabs.html", tab=tab, tabs=await _tabs(office, actor, causes, tab))


async def _tabs(office: Office, actor: Actor, causes: Sequence[Cause], tab: str) -> list[tuple[str, str, bool, str]]:
    waiting = await office.waiting(actor)
    counts = {
        "stuck": sum(len(cause.sagas) for cause in causes if not cause.is_undo),
        "undo": sum(len(cause.sagas) for cause in causes if cause.is_undo),
        "letters": waiting.letters,
        "early": waiting.early,
    }
    return [
        (label, query_text(tab=key), key == tab, f"{counts[key]:,}{'+' if counts[key] >= COUNTED_MAX else ''}")
        for key, label in TABS.items()
    ]


# --- one cause, many sagas --------------------------------------------------------------------------------------------


@router.get("/operations/causes/{key}", dependencies=[may("saga.operate")])
async def cause_page(request: Request, office: OfficeOf, actor: Acting, key: str) -> Response:
    """One cause with its sagas: the preview of a retry of all of them."""
    return await _cause_page(request, office, actor, key)


@router.post("/operations/causes/{key}", dependencies=[may("saga.operate")])
async def retry_all(request: Request, engine: EngineOf, office: OfficeOf, actor: Acting, key: str) -> Response:
    """Retries the sagas of the frozen list, one record each, and says what became of each."""
    form = await form_of(request)
    reason = form.one("reason").strip()
    frozen = list(_frozen(form))
    if not reason or len(reason) > REASON_CHARACTERS_MAX or not frozen:
        errors = [("reason", "Say why: the reason stays in the records of every saga.")]
        return await _cause_page(request, office, actor, key, errors=errors, reason=reason, status=422)
    request_id = form.one("key")[:100] or str(uuid4())
    results = [await _retry(engine, actor, one, reason, request_id) for one in frozen]
    await asyncio.gather(*(_rests(engine, result["saga_id"], actor) for result in results if not result["refused"]))
    rows = [await _became(engine, actor, result) for result in results]
    return page(request, actor, "operations/retried.html", rows=rows, reason=reason, cause_key=key)


async def _cause_page(
    request: Request,
    office: Office,
    actor: Actor,
    key: str,
    *,
    errors: Sequence[tuple[str, str]] = (),
    reason: str = "",
    status: int = 200,
) -> Response:
    causes, _ = await office.causes(actor)
    return page(
        request,
        actor,
        "operations/cause.html",
        status=status,
        cause=next((cause for cause in causes if cause.key == key), None),
        errors=list(errors),
        wrong=dict(errors),
        reason=reason,
        span=span,
        key=str(uuid4()),
        retried_max=RETRIED_MAX,
    )


def _frozen(form: SentForm) -> Iterator[tuple[str, str, int]]:
    """(saga id, place, record) of what was previewed, RETRIED_MAX of them at most."""
    for text in form.many("frozen")[:RETRIED_MAX]:
        saga_id, _, rest = text.partition("|")
        version, _, place = rest.partition("|")
        if version.isascii() and version.isdigit() and len(version) < 10:
            yield saga_id, place, int(version)


async def _retry(engine: Engine, actor: Actor, one: tuple[str, str, int], reason: str, key: str) -> dict[str, Any]:
    saga_id, place, version = one
    try:
        await engine.operate(saga_id, "retry", place, version, actor, reason, message_id=key)
    except RefusedError as error:
        return {"saga_id": saga_id, "version": version, "refused": error.text}
    return {"saga_id": saga_id, "version": version, "refused": ""}


async def _rests(engine: Engine, saga_id: str, actor: Actor) -> None:
    await engine.settled(saga_id, seconds_max=SETTLE_SECONDS_MAX, tenant=actor.tenant)


async def _became(engine: Engine, actor: Actor, result: dict[str, Any]) -> dict[str, Any]:
    """What became of one of them: it progressed, it failed again, it is still under way, or it was refused."""
    saga = await engine.find(result["saga_id"], tenant=actor.tenant)
    if saga is None or result["refused"]:
        return {**result, "saga": saga, "state": ("idle", "not retried"), "verdict": "refused"}
    verdict = "failed again" if saga.stuck else "progressed"
    return {**result, "saga": saga, "state": state_of(saga), "verdict": verdict}


# --- dead letters -----------------------------------------------------------------------------------------------------


@router.get("/operations/letters/{letter_id}", dependencies=[may("letter.read")])
async def letter(request: Request, engine: EngineOf, office: OfficeOf, actor: Acting, letter_id: LetterId) -> Response:
    """One dead letter."""
    found = await engine.letter(letter_id, actor)
    return _letter_page(request, engine, office, actor, found)


@router.post("/operations/letters/{letter_id}", dependencies=[may("letter.redrive")])
async def redrive(request: Request, engine: EngineOf, office: OfficeOf, actor: Acting, letter_id: LetterId) -> Response:
    """Processes it again; it passes the same checks as any other message."""
    form = await form_of(request)
    reason = form.one("reason").strip()
    found = await engine.letter(letter_id, actor)
    if not reason or len(reason) > REASON_CHARACTERS_MAX:
        errors = [("reason", "Say why you drive it again.")]
        return _letter_page(request, engine, office, actor, found, errors=errors, reason=reason, status=422)
    try:
        outcome = await engine.redrive(letter_id, actor, reason)
    except RefusedError as error:
        return _letter_page(request, engine, office, actor, found, refused=error.text, reason=reason, status=409)
    if outcome["fate"] in ("dead", "failed"):
        text = f"It was refused again: {outcome['reason']}. It stays here."
        return _letter_page(request, engine, office, actor, found, refused=text, reason=reason, status=409)
    if outcome["sagaId"]:
        return RedirectResponse(f"/office/sagas/{outcome['sagaId']}", 303)
    return RedirectResponse(f"/office/operations/letters/{letter_id}", 303)


def _letter_page(
    request: Request,
    engine: Engine,
    office: Office,
    actor: Actor,
    found: LetterView,
    *,
    errors: Sequence[tuple[str, str]] = (),
    refused: str = "",
    reason: str = "",
    status: int = 200,
) -> Response:
    type_ = next((value for name, value in found.headers if name in ("ce_type", "ce-type")), "")
    raw = found.text.encode() if found.text is not None else bytes.fromhex(found.value_hex)
    return page(
        request,
        actor,
        "operations/letter.html",
        status=status,
        letter=found,
        type=type_,
        contract=_contract(engine, actor, type_),
        waiters=office.waiters(type_),
        hex=hex_lines(raw[:HEX_BYTES_MAX]),
        size=len(raw),
        is_cut=len(raw) > HEX_BYTES_MAX,
        errors=list(errors),
        wrong=dict(errors),
        refused=refused,
        reason=reason,
        may_redrive=is_allowed(actor, "letter.redrive") and found.redriven_at is None,
        key=str(uuid4()),
    )


def _contract(engine: Engine, actor: Actor, type_: str) -> Any:
    try:
        return engine.contract(type_, actor) if type_ else None
    except (ProblemError, RefusedError):
        return None
