"""What needs work: stuck sagas by cause, undos that failed, dead letters, and events that came too early.

Rules of this file
- Thirty sagas that are stuck for one reason are one line; what is done about them stands in cause_page.py.
- A dead letter is shown safely: as text only where it is text, with odd characters marked, else as bytes in hex.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from orchestrator.pages.causes import Cause
from orchestrator.pages.drawing.raw import HEX_BYTES_MAX, hex_lines
from orchestrator.pages.drawing.spans import span
from orchestrator.pages.reading import Office, OfficeOf
from orchestrator.pages.reading_forms import form_of
from orchestrator.pages.site import office_router, page, query_text
from orchestrator.store.operations import COUNTED_MAX

router = office_router()

TABS = {"stuck": "Stuck", "undo": "Undo failed", "letters": "Dead letters", "early": "Early events"}
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
    causes, is_all = await office.causes.newest(actor)
    facts: dict[str, Any] = {"next": ""}
    if tab in ("stuck", "undo"):
        shown = [cause for cause in causes if cause.is_undo == (tab == "undo")]
        owners = await office.bulk.owners(actor.tenant, [cause.key for cause in shown])
        facts |= {"causes": shown, "owners": {key: note.owner for key, note in owners.items()}}
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
    causes, _ = await office.causes.newest(actor)
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
