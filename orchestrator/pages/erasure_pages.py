"""Erasing a person: ask for it, confirm what somebody else asked for, legal holds, and what each erasure did.

Rules of this file
- No page shows whose request it is: nobody's id is kept. What it concerns is told by the sagas, whose keys are not
  personal; and who confirms types whom the letter names, and is refused where the request stands for somebody else.
- Asking on this page never carries out what somebody else has asked for: that is done on the request's own page.
- A refusal says what to wait for, and links it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Query, Request
from fastapi.responses import RedirectResponse, Response

from orchestrator.api.engine import Acting, Engine, EngineOf, may
from orchestrator.api.views import Actor, RefusedError
from orchestrator.identity.rules import may as is_allowed
from orchestrator.pages.reading_forms import SentForm, form_of
from orchestrator.pages.site import office_router, page, query_text
from orchestrator.vault.erasing import Erasing, ErasureRefusedError

router = office_router()

PATH = "/office/erasures"
CHARACTERS_MAX = 200
SAGAS_SHOWN_MAX = 200
_STATUS = {"in_use": 409, "second_person": 403, "not_found": 404, "invalid": 422}
_SAID = {
    "asked": "Noted. Somebody else has to confirm it: nothing is erased before.",
    "held": "Noted. Until it is let go, this person cannot be erased.",
    "released": "Noted. The hold is over.",
}

Word = Annotated[str, Query(max_length=CHARACTERS_MAX)]


@dataclass(frozen=True, slots=True)
class Refused:
    """Why not, and what to look at: (text, path)."""

    text: str
    links: Sequence[tuple[str, str]] = ()


@router.get("/erasures", dependencies=[may("subject.read")])
async def erasures(request: Request, engine: EngineOf, actor: Acting, said: Word = "") -> Response:
    """Requests, holds, and the forms to ask for either."""
    return await _list(request, engine, actor, said=said)


@router.get("/erasures/one", dependencies=[may("subject.read")])
async def one(
    engine: EngineOf, actor: Acting, request: Request, name: Annotated[str, Query(alias="request", max_length=200)] = ""
) -> Response:
    """One request."""
    return await _one(request, engine, actor, name)


@router.post("/erasures", dependencies=[may("subject.erase")])
async def ask(request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Asks for somebody to be erased; where one person is enough, it is done."""
    form, erasing = await form_of(request), _erasing(engine)
    errors = _wrong(form, subject="Whom?", request="Which request? Pages will name it.", reason="Say why.")
    if not erasing.two_people and form.one("sure") != "true":
        errors.append(("sure", "Say that you know that it cannot be taken back."))
    if errors:
        return await _list(request, engine, actor, form=form, errors=errors, status=422)
    name = form.one("request").strip()
    if any(known.request == name for known in await erasing.all(actor.tenant)):
        links = [(f"Open {name}", PATH + "/one" + query_text(request=name))]
        refused = Refused(f"There is a request {name} already. Open it, or give this one a number of its own.", links)
        return await _list(request, engine, actor, form=form, refused=refused, status=409)
    try:
        found = await erasing.ask(
            actor.tenant, form.one("subject").strip(), name, form.one("reason").strip(), actor.id,
            saga=form.one("kind") == "saga",
        )  # fmt: skip
    except ErasureRefusedError as error:
        return await _list(
            request, engine, actor, form=form, refused=_refused(error), status=_STATUS[error.refusal.code]
        )
    where = PATH + "/one" + query_text(request=found.request)
    return RedirectResponse(where if found.erased_at else f"{PATH}?said=asked", 303)


@router.post("/erasures/confirm", dependencies=[may("subject.erase")])
async def confirm(request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Carries out what somebody else has asked for."""
    form = await form_of(request)
    name = form.one("request").strip()
    errors = _wrong(form, subject="Type whom the request is about, as you have read it yourself.")
    if form.one("sure") != "true":
        errors.append(("sure", "Say that you know that it cannot be taken back."))
    if errors:
        return await _one(request, engine, actor, name, form=form, errors=errors, status=422)
    try:
        await _erasing(engine).confirm(
            actor.tenant, name, actor.id, subject=form.one("subject").strip(), saga=form.one("kind") == "saga"
        )
    except ErasureRefusedError as error:
        status = _STATUS[error.refusal.code]
        return await _one(request, engine, actor, name, form=form, refused=_refused(error), status=status)
    return RedirectResponse(PATH + "/one" + query_text(request=name), 303)


@router.post("/erasures/hold", dependencies=[may("subject.erase")])
async def hold(request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Puts somebody under a legal hold."""
    form = await form_of(request)
    errors = _wrong(form, held="Whom?", why="Say why: who is refused later reads it.")
    if errors:
        return await _list(request, engine, actor, form=form, errors=errors, status=422)
    try:
        keys = await _erasing(engine).hold(
            actor.tenant, form.one("held").strip(), form.one("why").strip(), actor.id
        )  # fmt: skip
        if not keys:
            raise ErasureRefusedError("not_found", "Nothing is sealed under a key of this person.")
    except ErasureRefusedError as error:
        return await _list(
            request, engine, actor, form=form, refused=_refused(error), status=_STATUS[error.refusal.code]
        )
    return RedirectResponse(f"{PATH}?said=held", 303)


@router.post("/erasures/release", dependencies=[may("subject.erase")])
async def release(request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Ends a legal hold."""
    form = await form_of(request)
    if not await _erasing(engine).let_go(actor.tenant, form.one("key_id")):
        refused = Refused("This hold is over already.")
        return await _list(request, engine, actor, refused=refused, status=409)
    return RedirectResponse(f"{PATH}?said=released", 303)


async def _list(
    request: Request,
    engine: Engine,
    actor: Actor,
    *,
    said: str = "",
    form: SentForm | None = None,
    errors: Sequence[tuple[str, str]] = (),
    refused: Refused | None = None,
    status: int = 200,
) -> Response:
    erasing = engine.erasing
    found = await erasing.all(actor.tenant) if erasing is not None else []
    return page(
        request, actor, "erasures/list.html", status=status, is_there=erasing is not None,
        waiting=[each for each in found if each.erased_at is None],
        done=[each for each in found if each.erased_at is not None],
        holds=await erasing.holds(actor.tenant) if erasing is not None else [],
        two_people=erasing is None or erasing.two_people, **_around(actor, form, errors, refused), said=_SAID.get(said),
    )  # fmt: skip


async def _one(
    request: Request,
    engine: Engine,
    actor: Actor,
    name: str,
    *,
    form: SentForm | None = None,
    errors: Sequence[tuple[str, str]] = (),
    refused: Refused | None = None,
    status: int = 200,
) -> Response:
    erasing = _erasing(engine)
    try:
        found, sagas = await erasing.one(actor.tenant, name)
    except ErasureRefusedError as error:
        raise RefusedError("not_found", error.refusal.text) from None
    is_own = erasing.two_people and found.asked_by == actor.id
    return page(
        request, actor, "erasures/one.html", status=status, erasure=found, sagas=sagas, is_own=is_own,
        shown_max=SAGAS_SHOWN_MAX, **_around(actor, form, errors, refused),
    )  # fmt: skip


def _around(
    actor: Actor, form: SentForm | None, errors: Sequence[tuple[str, str]], refused: Refused | None
) -> dict[str, Any]:
    typed = {name: form.one(name) if form is not None else "" for name in _FIELDS}
    return {
        "typed": typed,
        "errors": list(errors),
        "wrong": dict(errors),
        "refused": refused,
        "may_erase": is_allowed(actor, "subject.erase"),
    }


_FIELDS = ("subject", "request", "reason", "kind", "held", "why")


def _wrong(form: SentForm, **wanted: str) -> list[tuple[str, str]]:
    """What is missing, or too long, of these fields."""
    found = []
    for name, text in wanted.items():
        size = len(form.one(name).strip())
        if not size:
            found.append((name, text))
        elif size > CHARACTERS_MAX:
            found.append((name, f"This has {size} characters; {CHARACTERS_MAX} at most."))
    return found


def _refused(error: ErasureRefusedError) -> Refused:
    named = error.refusal.facts.get("sagas", ())
    ids = error.refusal.facts.get("saga_ids", ())
    links = [(name, f"/office/sagas/{saga_id}") for name, saga_id in zip(named, ids, strict=True)]
    return Refused(error.refusal.text, links)


def _erasing(engine: Engine) -> Erasing:
    if engine.erasing is None:
        raise RefusedError("not_found", "No vault is set up here: ORCHESTRATOR_VAULT_KEY_FILE names its keys.")
    return engine.erasing
