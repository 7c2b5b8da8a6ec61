"""Acts of operators on one saga: a page of its own for each, with what follows, what would be undone, and a reason.

Rules of this file
- Nothing happens by one click: a link opens the page, and only its form acts. The button says again what it does.
- The form carries the record that it answers and a key of its own, so a stale page is refused (409) and a double click
  is one record. What was typed is never lost.
- Who acts comes from the sign-in. What needs a second person is proposed by the first, and says so before and after.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import uuid4

from fastapi import Query, Request
from fastapi.responses import RedirectResponse, Response

from orchestrator.api.body import strict_json
from orchestrator.api.engine import Acting, Engine, EngineOf, may
from orchestrator.api.problems import PROBLEMS, ProblemError
from orchestrator.api.views import Actor, RefusedError
from orchestrator.identity.rules import may as is_allowed
from orchestrator.kernel.graph import Graph, StepNode, node_path
from orchestrator.pages.offers import Need, Offer, needs
from orchestrator.pages.reading import Office, OfficeOf
from orchestrator.pages.reading_forms import form_of
from orchestrator.pages.saga_page import Seen, see, undo_of
from orchestrator.pages.saga_words import state_of
from orchestrator.pages.site import office_router, page, plain_json

router = office_router()

REASON_CHARACTERS_MAX = 2_000
DATA_CHARACTERS_MAX = 100_000
KEY_CHARACTERS_MAX = 100
Place = Annotated[str, Query(max_length=500)]


@router.get("/sagas/{reference}/act/cancel", dependencies=[may("saga.cancel")])
async def ask_cancel(request: Request, engine: EngineOf, office: OfficeOf, actor: Acting, reference: str) -> Response:
    """What a cancel would do."""
    return _cancel_page(request, actor, await see(engine, office, actor, reference))


@router.post("/sagas/{reference}/act/cancel", dependencies=[may("saga.cancel")])
async def cancel(request: Request, engine: EngineOf, office: OfficeOf, actor: Acting, reference: str) -> Response:
    """Asks the saga to turn back."""
    form = (await form_of(request)).firsts
    reason, key = _text(form, "reason"), _text(form, "key")[:KEY_CHARACTERS_MAX]
    seen = await see(engine, office, actor, reference)
    errors = reason_errors(reason)
    if errors:
        return _cancel_page(request, actor, seen, form=form, errors=errors, status=422)
    try:
        await engine.cancel(seen.saga.saga_id, actor, reason, message_id=key)
    except RefusedError as error:
        again = await see(engine, office, actor, reference)
        return _cancel_page(request, actor, again, form=form, refused=error, status=_status(error))
    return _back(seen.saga.saga_id, "cancelled")


@router.get("/sagas/{reference}/act/{act}", dependencies=[may("saga.operate")])
async def ask(
    request: Request, engine: EngineOf, office: OfficeOf, actor: Acting, reference: str, act: str, place: Place = ""
) -> Response:
    """What an act would do."""
    seen = await see(engine, office, actor, reference)
    return _act_page(request, actor, office, engine, seen, act, place)


@router.post("/sagas/{reference}/act/{act}", dependencies=[may("saga.operate")])
async def operate(
    request: Request, engine: EngineOf, office: OfficeOf, actor: Acting, reference: str, act: str
) -> Response:
    """One act of an operator: it counts, is proposed, or is refused with the reason."""
    form = (await form_of(request)).firsts
    place, reason, version = _text(form, "place"), _text(form, "reason"), _text(form, "version")
    seen = await see(engine, office, actor, reference)
    _, offer = _offered(office, seen, act, place)
    errors = reason_errors(reason)
    data, outcome, wrong = _typed(form, offer)
    errors += wrong
    if offer is None or errors:
        return _act_page(request, actor, office, engine, seen, act, place, form=form, errors=errors, status=422)
    try:
        await engine.operate(
            seen.saga.saga_id,
            offer.act,
            place,
            int(version) if version.isascii() and version.isdigit() and len(version) < 10 else 0,
            actor,
            reason,
            data=data,
            outcome=outcome,
            message_id=_text(form, "key")[:KEY_CHARACTERS_MAX],
        )
    except RefusedError as error:
        again = await see(engine, office, actor, reference)
        return _act_page(
            request, actor, office, engine, again, act, place, form=form, refused=error, status=_status(error)
        )
    after = await see(engine, office, actor, reference)
    waits = any(_is_mine(need, act, place, actor) for need in _needs(office, after))
    return _back(seen.saga.saga_id, "proposed" if waits else "retried" if act == "retry" else "acted")


def _is_mine(need: Need, act: str, place: str, actor: Actor) -> bool:
    said = need.proposal
    return said is not None and need.place == place and said.act == act and said.by == actor.id


def _needs(office: Office, seen: Seen) -> list[Need]:
    return needs(seen.history.state, seen.graph, office.settings.acts_of_two_people)


def _offered(office: Office, seen: Seen, act: str, place: str) -> tuple[Need | None, Offer | None]:
    for need in _needs(office, seen):
        for offer in need.offers:
            if (offer.act, offer.place) == (act, place):
                return need, offer
    return None, None


def _typed(form: Mapping[str, str], offer: Offer | None) -> tuple[Any, str, list[tuple[str, str]]]:
    """The data and outcome that a form gives, and what is wrong with them. A confirmation repeats what was proposed."""
    if offer is None:
        return None, "", []
    if offer.proposal is not None:
        return offer.proposal.value, offer.proposal.outcome, []
    outcome = _text(form, "outcome")
    errors = []
    if offer.wants == "outcome" and outcome not in ("done", "not_done"):
        errors.append(("outcome", "Say what the evidence shows: done, or not done."))
    text = _text(form, "data")
    if offer.wants == "value" and not text:
        errors.append(("data", "Type the value."))
    try:
        return strict_json(text.encode()) if text else None, outcome, errors
    except ProblemError as error:
        return None, outcome, [*errors, ("data", f"{error.detail} Texts stand in double quotes.")]


def reason_errors(reason: str) -> list[tuple[str, str]]:
    """What is wrong with a reason."""
    if not reason:
        return [("reason", "Say why: the reason stays in the saga's records.")]
    if len(reason) > REASON_CHARACTERS_MAX:
        return [("reason", f"The reason has {len(reason)} characters; {REASON_CHARACTERS_MAX} at most.")]
    return []


def _text(form: Mapping[str, Any], name: str) -> str:
    value = form.get(name)
    return value.strip()[:DATA_CHARACTERS_MAX] if isinstance(value, str) else ""


def _status(error: RefusedError) -> int:
    problem = PROBLEMS.get(error.code)
    return problem.status if problem is not None else 409


def _back(saga_id: str, said: str) -> Response:
    return RedirectResponse(f"/office/sagas/{saga_id}?said={said}", 303)


def _act_page(
    request: Request,
    actor: Actor,
    office: Office,
    engine: Engine,
    seen: Seen,
    act: str,
    place: str,
    *,
    form: Mapping[str, Any] | None = None,
    errors: list[tuple[str, str]] | None = None,
    refused: RefusedError | None = None,
    status: int = 200,
) -> Response:
    need, offer = _offered(office, seen, act, place)
    if offer is None and status == 200:
        status = 409
    own = need is not None and need.proposal is not None and need.proposal.by == actor.id
    return page(
        request,
        actor,
        "sagas/act.html",
        status=status,
        seen=seen,
        saga=seen.saga,
        pill=state_of(seen.saga),
        need=need,
        offer=offer,
        act=act,
        place=place,
        is_own_proposal=own and offer is not None and offer.proposal is not None,
        undoing=undo_of(seen),
        example=_example(engine, actor, seen.graph, offer),
        proposed_value=plain_json(offer.proposal.value) if offer is not None and offer.proposal is not None else "",
        typed={name: _text(form or {}, name) for name in ("reason", "data", "outcome")},
        key=_text(form or {}, "key") or str(uuid4()),
        errors=errors or [],
        wrong=dict(errors or []),
        refused=refused,
        may_operate=is_allowed(actor, "saga.operate"),
    )


def _cancel_page(
    request: Request,
    actor: Actor,
    seen: Seen,
    *,
    form: Mapping[str, Any] | None = None,
    errors: list[tuple[str, str]] | None = None,
    refused: RefusedError | None = None,
    status: int = 200,
) -> Response:
    return page(
        request,
        actor,
        "sagas/cancel.html",
        status=status,
        seen=seen,
        saga=seen.saga,
        pill=state_of(seen.saga),
        undoing=undo_of(seen),
        pivot=seen.history.state.pivot,
        can=seen.history.state.phase == "forward" and seen.history.state.pivot != "passed",
        typed={"reason": _text(form or {}, "reason")},
        key=_text(form or {}, "key") or str(uuid4()),
        errors=errors or [],
        wrong=dict(errors or []),
        refused=refused,
    )


def _example(engine: Engine, actor: Actor, graph: Graph | None, offer: Offer | None) -> str:
    """An example of the reply that is to be typed, where its contract is installed."""
    if graph is None or offer is None or offer.wants != "reply":
        return ""
    node = graph.nodes.get(node_path(offer.place[1:]))
    if not isinstance(node, StepNode) or not node.reply:
        return ""
    try:
        return plain_json(engine.contract(node.reply, actor).get("example"))
    except (ProblemError, RefusedError):
        return ""
