"""Acts on many sagas: the preview, the reason, the second person, the progress, pause and stop.

Rules of this file
- What is shown is what was frozen: the same list before the reason, before the confirmation and afterwards.
- Results are of single sagas: progressed, failed again, still waiting, refused, left out. "Done" means that nothing is
  left to act on, and never that all is well.
- Every move names the state that was seen on the page; a page that is behind is refused (409) and shown anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import RedirectResponse, Response

from orchestrator.api.engine import Acting, may
from orchestrator.api.times import instant
from orchestrator.api.views import Actor, RefusedError
from orchestrator.identity.rules import may as is_allowed
from orchestrator.pages.bulk_list import ACTS
from orchestrator.pages.reading import Office, OfficeOf
from orchestrator.pages.reading_forms import form_of
from orchestrator.pages.site import office_router, page, query_text
from orchestrator.store.bulk import BulkAct

router = office_router()

ROWS = 100
REASON_CHARACTERS_MAX = 2_000
FILTERS = {
    "": ("All", None, None), "open": ("To do", "open", None), "taking": ("Asked to let go", "taking", None),
    "progressed": ("Progressed", None, "progressed"), "failed": ("Failed again", None, "failed"),
    "waiting": ("Still waiting", None, "waiting"), "refused": ("Refused", "refused", None),
    "excluded": ("Left out", "excluded", None),
}  # fmt: skip
# What is done in which state, what it leads to, and how it is noted.
MOVES = {
    "start": (("draft",), "running", "started"),
    "propose": (("draft",), "proposed", "proposed"),
    "confirm": (("proposed",), "running", "confirmed"),
    "withdraw": (("proposed",), "stopped", "withdrawn"),
    "pause": (("running",), "paused", "paused"),
    "resume": (("paused",), "running", "resumed"),
    "stop": (("running", "paused"), "stopped", "stopped"),
}
_STATES = {
    "draft": ("idle", "preview"), "proposed": ("warn", "waits for a second person"), "running": ("info", "under way"),
    "paused": ("warn", "paused"), "stopped": ("bad", "stopped"), "done": ("good", "nothing left to do"),
}  # fmt: skip

Word = Annotated[str, Query(max_length=20)]
After = Annotated[int, Query(ge=0, le=1_000_000)]


@router.get("/operations/bulk", dependencies=[may("letter.read")])
async def listed(request: Request, office: OfficeOf, actor: Acting) -> Response:
    """The newest acts on many sagas."""
    acts = await office.bulk.acts(actor.tenant)
    counts = await office.bulk.counts(actor.tenant, [act.id for act in acts])
    return page(
        request, actor, "operations/bulks.html", acts=acts, counts=counts, states=_STATES, names=ACTS, at=instant
    )


@router.get("/operations/bulk/{bulk_id}", dependencies=[may("letter.read")])
async def shown(
    request: Request, office: OfficeOf, actor: Acting, bulk_id: str, show: Word = "", after: After = 0
) -> Response:
    """One of them."""
    return await _page(request, office, actor, await _act(office, actor, bulk_id), show=show, after=after)


@router.get("/operations/bulk/{bulk_id}/live", dependencies=[may("letter.read")])
async def live(request: Request, office: OfficeOf, actor: Acting, bulk_id: str) -> Response:
    """The numbers, as they are now."""
    act = await _act(office, actor, bulk_id)
    return page(request, actor, "operations/_bulk_counts.html", **await _numbers(office, act))


@router.post("/operations/bulk/{bulk_id}/{move}", dependencies=[may("saga.operate")])
async def moved(request: Request, office: OfficeOf, actor: Acting, bulk_id: str, move: str) -> Response:
    """Starts, proposes, confirms, withdraws, pauses, resumes or stops it."""
    act = await _act(office, actor, bulk_id)
    form = await form_of(request)
    reason = "" if move in ("pause", "resume") else form.one("reason").strip()  # whatever was typed to stop it
    refused = _refused(act, actor, move)
    if refused:
        return await _page(request, office, actor, act, refused=refused, reason=reason, status=409)
    seen, to, what = MOVES[move]
    wants = move in ("start", "propose", "stop", "withdraw")
    if (wants and not reason) or len(reason) > REASON_CHARACTERS_MAX:
        errors = [("reason", "Say why, in 2,000 characters at most: it stays in the records.")]
        return await _page(request, office, actor, act, errors=errors, reason=reason, status=422)
    if move == "stop":  # at once: looking for names in what thousands of sagas hold takes seconds
        await office.bulk.move(act, "paused", "paused", actor.id, seen=["running"])
    repeated = await office.repeats(actor, await office.bulk.sagas(act), reason) if reason else ""
    if repeated:
        if move == "stop":
            act, repeated = await _act(office, actor, bulk_id), f"{repeated} Until then it is paused."
        return await _page(request, office, actor, act, errors=[("reason", repeated)], reason=reason, status=422)
    keep, confirms = move in ("start", "propose"), move == "confirm"
    if not await office.bulk.move(
        act, to, what, actor.id, seen=seen, reason=reason, keep_reason=keep, confirms=confirms
    ):
        again = await _act(office, actor, bulk_id)
        text = "It is not in the state any more that you saw: somebody was quicker."
        return await _page(request, office, actor, again, refused=text, reason=reason, status=409)
    return RedirectResponse(f"/office/operations/bulk/{bulk_id}", 303)


def _refused(act: BulkAct, actor: Actor, move: str) -> str:
    """Why this person may not do this now; "" where they may."""
    if move not in MOVES:
        raise RefusedError("not_found", f"There is no such act: {move[:40]!r}.")
    if act.act == "cancel" and not is_allowed(actor, "saga.cancel"):
        return "You may not cancel sagas."
    if act.state not in MOVES[move][0]:
        return f"It is {_STATES[act.state][1]} now: look again, then decide."
    if move in ("start", "propose") and act.made_by != actor.id:
        return f"This preview is {act.made_by}'s. Make one of your own: the sagas may have moved."
    if move == "start" and act.needs_two:
        return "This takes two people: propose it."
    if move == "confirm" and act.made_by == actor.id:
        return "You proposed this; another person must confirm it."
    return ""


async def _act(office: Office, actor: Actor, bulk_id: str) -> BulkAct:
    act = await office.bulk.act(actor.tenant, bulk_id)
    if act is None:
        raise RefusedError("not_found", f"There is no act on many sagas {bulk_id[:40]!r}; previews last a day.")
    return act


async def _numbers(office: Office, act: BulkAct) -> dict[str, Any]:
    counts: Counter[str] = Counter((await office.bulk.counts(act.tenant, [act.id]))[act.id])
    included = sum(counts.values()) - counts["excluded"]
    over = included - counts["open"] - counts["taking"]
    return {"act": act, "counts": counts, "included": included, "over": over, "state": _STATES[act.state]}


async def _page(
    request: Request,
    office: Office,
    actor: Actor,
    act: BulkAct,
    *,
    show: str = "",
    after: int = 0,
    errors: Sequence[tuple[str, str]] = (),
    refused: str = "",
    reason: str = "",
    status: int = 200,
) -> Response:
    numbers = await _numbers(office, act)
    show = show if show in FILTERS else ""
    _, state, verdict = FILTERS[show]
    items = await office.bulk.items(act, after, ROWS + 1, state, verdict)
    following = items[ROWS - 1].number if len(items) > ROWS else 0
    tabs = [
        (label, query_text(show=key) or "?", key == show, numbers["counts"][key] if key else None)
        for key, (label, _, _) in FILTERS.items()
        if not key or key == show or numbers["counts"][key]
    ]
    return page(
        request, actor, "operations/bulk.html", status=status, **numbers, items=items[:ROWS], tabs=tabs,
        notes=await office.bulk.notes(act.tenant, act.id), is_own=act.made_by == actor.id, names=ACTS,
        moves=[] if refused and status == 200 else [move for move in MOVES if not _refused(act, actor, move)],
        may_operate=is_allowed(actor, "saga.operate"), errors=list(errors), wrong=dict(errors), refused=refused,
        reason=reason, at=instant, next=query_text(show=show, after=following) if following else "",
        first=query_text(show=show) or "?" if after else "",
    )  # fmt: skip
