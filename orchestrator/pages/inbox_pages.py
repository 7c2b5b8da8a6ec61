"""Routes of the inbox: the list, its live part, claims of several tasks at once, saved views.

Rules of this file
- Whatever is looked for stands in the URL; a link shows a colleague the same list, as far as they may see it.
- Rows never move under a pointer: the live part answers with the rows that are on screen, in their order, and says how
  many others there are now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import Query, Request
from fastapi.responses import RedirectResponse, Response

from orchestrator.api.engine import Acting, Engine, EngineOf, may
from orchestrator.api.problems import ProblemError
from orchestrator.api.views import Actor, RefusedError
from orchestrator.pages.inbox import PAGE_ROWS, SUPERVISORS, TABS, Filter, Inbox
from orchestrator.pages.reading_forms import form_of
from orchestrator.pages.site import office_router, page

PATH = "/office/inbox"
WORDS_MAX = 20
NAME_MAX = 80

router = office_router()


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one task of several."""

    task_id: str
    headline: str
    ok: bool
    words: str


def filter_of(values: Mapping[str, str]) -> Filter:
    """The filter that a URL states; what it does not know is left out."""
    known = {item.name for item in fields(Filter)}
    wanted = Filter(**{name: value[:500] for name, value in values.items() if name in known})
    return wanted if wanted.tab in TABS else Filter()


@router.get("/inbox", dependencies=[may("task.read")])
async def inbox(request: Request, engine: EngineOf, actor: Acting) -> Response:
    """The list. Without a tab: what is asked of me, or of my groups where nothing is asked of me alone."""
    lists = Inbox(engine, request.app.state.keeping)
    counts = await lists.counts(actor)
    wanted = filter_of(request.query_params)
    if "tab" not in request.query_params:
        tab = "groups" if counts["me"] == "0" and counts["groups"] != "0" else "me"
        wanted = Filter(**{**{item.name: getattr(wanted, item.name) for item in fields(Filter)}, "tab": tab})
    if wanted.tab == "all" and not _supervises(actor):
        raise ProblemError("not_allowed", "All tasks are seen by operators and auditors.")
    now = datetime.now(UTC)
    listing = await lists.listing(actor, wanted, now)
    return page(
        request, actor, "inbox/list.html",
        wanted=wanted, listing=listing, counts=counts, tabs=_tabs(wanted, counts, actor), new=0,
        kinds=_kinds(engine, actor), views=await request.app.state.keeping.views(actor.tenant, actor.id, PATH),
        rows_url=_rows_url(wanted, [row.task.id for row in listing.rows]), here=_here(wanted), done=(),
    )  # fmt: skip


@router.get("/inbox/rows", dependencies=[may("task.read")])
async def rows(
    request: Request, engine: EngineOf, actor: Acting, shown: Annotated[list[str] | None, Query()] = None
) -> Response:
    """The live part: the rows that are on screen, as they are now."""
    wanted = filter_of(request.query_params)
    if wanted.tab == "all" and not _supervises(actor):
        raise ProblemError("not_allowed", "All tasks are seen by operators and auditors.")
    ids = list(dict.fromkeys(shown or ()))[: 3 * PAGE_ROWS]
    lists = Inbox(engine, request.app.state.keeping)
    listing, new = await lists.again(actor, ids, wanted, datetime.now(UTC))
    return page(
        request, actor, "inbox/rows.html",
        wanted=wanted, listing=listing, new=new, rows_url=_rows_url(wanted, ids), here=_here(wanted),
    )  # fmt: skip


@router.post("/inbox/several", dependencies=[may("task.work")])
async def several(request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Claims or gives back the chosen tasks, each by itself; the page says what became of each."""
    form = await form_of(request)
    act, chosen = form.one("act"), form.many("task")[:PAGE_ROWS]
    if act not in ("claim", "release"):
        raise ProblemError("bad_request", "Several tasks at once can be claimed or released.")
    done = [await _one(engine, actor, act, task_id) for task_id in chosen]
    lists = Inbox(engine, request.app.state.keeping)
    wanted = filter_of(dict(parse_qsl(form.one("view"))))
    listing, counts = await lists.listing(actor, wanted, datetime.now(UTC)), await lists.counts(actor)
    return page(
        request, actor, "inbox/list.html", position=await request.app.state.live.refresh(),
        wanted=wanted, listing=listing, counts=counts, tabs=_tabs(wanted, counts, actor), new=0,
        kinds=_kinds(engine, actor), views=await request.app.state.keeping.views(actor.tenant, actor.id, PATH),
        rows_url=_rows_url(wanted, [row.task.id for row in listing.rows]), here=_here(wanted), done=done,
    )  # fmt: skip


async def _one(engine: Engine, actor: Actor, act: str, task_id: str) -> Done:
    try:
        desk = engine.desk
        task = await (desk.claim(task_id, actor) if act == "claim" else desk.release(task_id, actor))
    except (RefusedError, ProblemError) as error:
        return Done(task_id, "", False, str(error))
    return Done(task_id, task.business_key, True, "claimed" if act == "claim" else "released")


@router.post("/views", dependencies=[may("own")])
async def save_view(request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Saves the list as it is filtered now, under a name. It is kept in the clear, so it holds nobody's id."""
    form = await form_of(request)
    name, path, query = form.one("name").strip(), form.one("path"), form.one("view")
    if not 0 < len(name) <= NAME_MAX or not name.isprintable():
        raise ProblemError("bad_request", f"A saved view needs a name of at most {NAME_MAX} characters.")
    if not path.startswith("/office/") or "//" in path or len(path) + len(query) > 2_000:
        raise ProblemError("bad_request", "Only lists of this back office can be saved.")
    pairs = [(key, value) for key, value in parse_qsl(query) if key != "cursor"]
    await _nobodys(engine, actor, "name", name)
    kept = urlencode([(key, await _nobodys(engine, actor, key, value)) for key, value in pairs])
    view_id = await request.app.state.keeping.save_view(
        actor.tenant, actor.id, name, path, kept, form.one("shared") == "true"
    )
    if not view_id:
        raise ProblemError("bad_request", "You have as many saved views as one person can have. Remove one first.")
    return RedirectResponse(f"/office/views/{view_id}", 303)


async def _nobodys(engine: Engine, actor: Actor, key: str, value: str) -> str:
    """A value as it may be kept: a customer by what stands for them. Raises ProblemError where it names a person."""
    if key == "customer":
        return await engine.known_as(actor, value) or ""
    for word in {value, *value.split()[:WORDS_MAX]}:
        if await engine.known_as(actor, word) != word:
            text = "holds the id of a person, and views are kept in the clear: search by customer, and save that."
            raise ProblemError("bad_request", f"The {key} {text}")
    return value


@router.get("/views/{view_id}", dependencies=[may("own")])
async def open_view(view_id: str, request: Request, actor: Acting) -> Response:
    """A saved view leads to its list; who may see that is the list's own matter."""
    found = await request.app.state.keeping.view(actor.tenant, actor.id, view_id)
    if found is None:
        raise RefusedError("not_found", "There is no such saved view, or it is not shared with you.")
    return RedirectResponse(f"{found.path}?{found.query}" if found.query else found.path, 303)


@router.post("/views/{view_id}/remove", dependencies=[may("own")])
async def remove_view(view_id: str, request: Request, actor: Acting) -> Response:
    """Forgets a saved view of one's own."""
    await request.app.state.keeping.drop_view(actor.tenant, actor.id, view_id)
    return RedirectResponse(PATH, 303)


def _supervises(actor: Actor) -> bool:
    return bool(actor.capacities & SUPERVISORS)


def _tabs(wanted: Filter, counts: Mapping[str, str], actor: Actor) -> Sequence[tuple[str, str, bool, str | None]]:
    words = {"me": "For me", "claimed": "Claimed", "groups": "My groups", "others": "Waiting for others", "all": "All"}
    shown = [tab for tab in TABS if tab != "all" or _supervises(actor)]
    return [(words[tab], _here(wanted, tab=tab, cursor=""), tab == wanted.tab, counts.get(tab)) for tab in shown]


def _here(wanted: Filter, **changes: str) -> str:
    return f"{PATH}?{urlencode(wanted.query(**changes))}"


def _rows_url(wanted: Filter, ids: Sequence[str]) -> str:
    pairs: list[tuple[str, Any]] = [*wanted.query().items(), *(("shown", task_id) for task_id in ids)]
    return f"{PATH}/rows?{urlencode(pairs)}"


def _kinds(engine: Engine, actor: Actor) -> Sequence[str]:
    return sorted({str(definition["name"]) for definition in engine.definitions(actor)})
