"""One cause of stuck sagas: whose it is, how it goes on, where a stuck saga parts from one that ran, what to do to all.

Rules of this file
- Taking a cause is noted with who and when, and so is taking it from somebody. It bars nobody from acting: it says who
  is at work, so that two do not do the same.
- A preview freezes the list before anybody gives a reason; nothing is done by looking (bulk_pages.py goes on).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import RedirectResponse, Response

from orchestrator.api.engine import Acting, Engine, EngineOf, may
from orchestrator.api.problems import ProblemError
from orchestrator.api.times import instant
from orchestrator.api.views import Actor, RefusedError, SagaView
from orchestrator.identity.rules import may as is_allowed
from orchestrator.pages.bulk_list import ACTS, acts_for, frozen
from orchestrator.pages.causes import SCANNED_MAX, Cause
from orchestrator.pages.comparing import Compared, compare
from orchestrator.pages.drawing.charts import trend
from orchestrator.pages.drawing.spans import span
from orchestrator.pages.reading import ModelsOf, Office, OfficeOf
from orchestrator.pages.reading_forms import form_of
from orchestrator.pages.site import office_router, page
from orchestrator.store.bulk import CauseNote
from projections.models import Models

router = office_router()

SHOWN_MAX = 200
REASON_CHARACTERS_MAX = 2_000
DEPLOYED_BEFORE = timedelta(
    hours=6
)  # a version that was registered so long before the first one may have to do with it
Word = Annotated[str, Query(max_length=40)]


@router.get("/operations/causes/{key}", dependencies=[may("saga.operate")])
async def cause_page(
    request: Request, engine: EngineOf, office: OfficeOf, models: ModelsOf, actor: Acting, key: str, said: Word = ""
) -> Response:
    """One cause."""
    return await _page(request, engine, office, models, actor, key, said=said)


@router.post("/operations/causes/{key}/owner", dependencies=[may("saga.operate")])
async def owner(
    request: Request, engine: EngineOf, office: OfficeOf, models: ModelsOf, actor: Acting, key: str
) -> Response:
    """Takes it, takes it over from somebody, or gives it back."""
    form = await form_of(request)
    act, reason, seen = form.one("act"), form.one("reason").strip(), form.one("seen")
    last = (await office.bulk.owners(actor.tenant, [key])).get(key)
    whose = last.owner if last is not None else ""
    errors = _owner_errors(act, reason, whose, actor)
    cause, _ = await office.causes.one(actor, key)
    if cause is None and act == "taken":
        raise RefusedError("not_found", "Nothing is stuck for this cause any more.")
    if not errors and reason and cause is not None:
        repeated = await office.repeats(actor, [one.saga.saga_id for one in cause.sagas], reason)
        errors = [("reason", repeated)] if repeated else []
    number = int(seen) if seen.isascii() and seen.isdigit() and len(seen) < 9 else -1
    if not errors and (
        number != (last.number if last is not None else 0)
        or not await office.bulk.note_cause(actor.tenant, key, number, act, actor.id, whose, reason)
    ):
        errors = [("", "Somebody was quicker: look at whose it is now, then decide again.")]
    if errors:
        status = 422 if errors[0][0] else 409
        return await _page(request, engine, office, models, actor, key, errors=errors, reason=reason, status=status)
    return RedirectResponse(f"/office/operations/causes/{key}?said={act}", 303)


@router.post("/operations/causes/{key}/preview", dependencies=[may("saga.operate")])
async def preview(request: Request, office: OfficeOf, actor: Acting, key: str) -> Response:
    """Freezes the sagas of the cause for an act on all of them."""
    form = await form_of(request)
    act = form.one("act")
    if act not in ACTS or (act == "cancel" and not is_allowed(actor, "saga.cancel")):
        raise ProblemError("bad_request", f"{act[:40]!r} cannot be done to many sagas.")
    cause, _ = await office.causes.one(actor, key)
    if cause is None:
        return RedirectResponse(f"/office/operations/causes/{key}", 303)
    graphs = {version: await office.graph(cause.name, version) for version in cause.versions}
    two = office.settings.acts_of_two_people
    items = list(frozen(cause, act, graphs.get, lambda version: office.is_installed(cause.name, version), two))
    title = f"{cause.title}: {cause.reason.splitlines()[0] if cause.reason else cause.cause}"[:300]
    bulk_id = await office.bulk.draft(actor.tenant, act, key, title, actor.id, items, needs_two=act in two)
    return RedirectResponse(f"/office/operations/bulk/{bulk_id}", 303)


def _owner_errors(act: str, reason: str, whose: str, actor: Actor) -> list[tuple[str, str]]:
    if act not in ("taken", "released"):
        return [("act", "Take it, or give it back.")]
    if act == "released" and whose != actor.id:
        return [("act", "It is not yours, so you cannot give it back.")]
    if act == "taken" and whose == actor.id:
        return [("act", "It is yours already.")]
    if act == "taken" and whose and not reason:
        return [("reason", f"It is {whose}'s: say why you take it over.")]
    if len(reason) > REASON_CHARACTERS_MAX:
        return [("reason", f"The reason has {len(reason)} characters; {REASON_CHARACTERS_MAX} at most.")]
    return []


async def _page(
    request: Request,
    engine: Engine,
    office: Office,
    models: Models,
    actor: Actor,
    key: str,
    *,
    said: str = "",
    errors: Sequence[tuple[str, str]] = (),
    reason: str = "",
    status: int = 200,
) -> Response:
    cause, is_all = await office.causes.one(actor, key)
    notes = await office.bulk.cause_notes(actor.tenant, key)
    facts = await _facts(engine, office, models, actor, cause) if cause is not None else {}
    return page(
        request, actor, "operations/cause.html", status=status, cause=cause, is_all=is_all, cause_key=key,
        notes=notes, owner=notes[0].owner if notes else "", seen=notes[0].number if notes else 0,
        errors=list(errors), wrong=dict(errors), reason=reason, said=said, span=span, at=instant,
        shown_max=SHOWN_MAX, scanned_max=SCANNED_MAX, acts=_acts(actor, cause), note_words=note_words, **facts,
    )  # fmt: skip


def _acts(actor: Actor, cause: Cause | None) -> list[tuple[str, str]]:
    found = acts_for(cause) if cause is not None else []
    return [(act, ACTS[act]) for act in found if act != "cancel" or is_allowed(actor, "saga.cancel")]


def note_words(note: CauseNote) -> str:
    """What a note says."""
    if note.act == "released":
        return f"{note.by} gave it back"
    return f"{note.by} took it over from {note.before}" if note.before else f"{note.by} took it"


async def _facts(engine: Engine, office: Office, models: Models, actor: Actor, cause: Cause) -> dict[str, Any]:
    now = datetime.now(cause.first.tzinfo)
    oldest = min(cause.sagas, key=lambda one: one.since)
    good, compared = await _compared(engine, models, actor, oldest.saga)
    moved = cause.trend(now)
    return {
        "trend": moved,
        "picture": trend([float(point) for point in moved.points], None),
        "oldest": oldest,
        "good": good,
        "compared": compared,
        "deployed": await _deployed(office, cause),
    }


async def _compared(
    engine: Engine, models: Models, actor: Actor, stuck: SagaView
) -> tuple[SagaView | None, Compared | None]:
    """The newest run of the same version that came to its end, and where the stuck one parts from it."""
    found = await models.timelines.search(
        actor.tenant, name=stuck.name, version=stuck.version, phase="completed", limit=1
    )
    good = await engine.find(found.items[0].saga_id, tenant=actor.tenant) if found.items else None
    if good is None:
        return None, None
    here, there = await engine.records(stuck.saga_id, actor), await engine.records(good.saga_id, actor)
    return good, compare(here, there)


async def _deployed(office: Office, cause: Cause) -> tuple[int, timedelta] | None:
    """The version of this definition that was registered here shortly before the first one got stuck: (version, how
    long before)."""
    before = [
        (one.version, cause.first - instant(one.registered_at))
        for one in await office.definitions()
        if one.name == cause.name and timedelta(0) <= cause.first - instant(one.registered_at) <= DEPLOYED_BEFORE
    ]
    return min(before, key=lambda one: one[1], default=None)
