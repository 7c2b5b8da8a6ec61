"""Routes of notices: what was sent to whom and what was not, the address book, and one's own wishes."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.api.engine import Acting, EngineOf, may
from orchestrator.api.idempotency import once
from orchestrator.api.problems import ProblemError
from orchestrator.api.shapes import respond
from orchestrator.api.views import Page, RefusedError
from orchestrator.notices import wiring
from orchestrator.notices.desk import PAGE_ROWS_MAX, BadCursorError, NoticeDesk, NoticeView
from orchestrator.notices.preferences import Delivery, PreferenceError, Preferences, minute_of
from orchestrator.notices.words import AddressError
from orchestrator.runtime.app import Runtime

router = APIRouter(prefix="/v1", tags=["notices"])

NoticeId = Annotated[int, Path(ge=1, le=2**53)]
Who = Annotated[str, Field(min_length=1, max_length=210)]
Clock = Annotated[str, Field(pattern=r"^\d\d:\d\d$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, populate_by_name=True)


class ReasonBody(_Strict):
    """Why an operator acts."""

    reason: Annotated[str, Field(min_length=1, max_length=2_000)]


class WishesBody(_Strict):
    """When and how somebody wants to be told. Times are wall times of `zone`; quiet hours may go over midnight."""

    channel: Literal["mail", "webhook"] = "mail"
    language: Annotated[str, Field(max_length=20, pattern=r"^[A-Za-z0-9_-]+$")] = "en"
    zone: Annotated[str, Field(max_length=60)] = "UTC"
    delivery: Delivery = "at_once"
    digest_at: Annotated[Clock, Field(alias="digestAt")] = "08:00"
    quiet_from: Annotated[Clock, Field(alias="quietFrom")] = "00:00"
    quiet_to: Annotated[Clock, Field(alias="quietTo")] = "00:00"

    def wishes(self) -> Preferences:
        """The checked wishes. Raises ProblemError."""
        clocks = (self.digest_at, self.quiet_from, self.quiet_to)
        try:
            return Preferences(self.language, self.zone, self.delivery, *(minute_of(text) for text in clocks))
        except PreferenceError as error:
            raise ProblemError("invalid", str(error)) from error


class ContactBody(WishesBody):
    """An entry of the address book. `who`: person:<id> or role:<name>. `address` "": that which everybody has."""

    who: Who
    address: Annotated[str, Field(max_length=2_000)] = ""


class RemoveBody(_Strict):
    """Which entry goes."""

    who: Who
    channel: Literal["mail", "webhook"] = "mail"


def desk_of(runtime: Runtime) -> NoticeDesk:
    """The desk of a process, for `app.state.notices`."""
    settings = runtime.settings
    return NoticeDesk(runtime.store.pools, wiring.guard(settings), wiring.reach(settings))


def _desk(request: Request) -> NoticeDesk:
    found: NoticeDesk = request.app.state.notices
    return found


Desk = Annotated[NoticeDesk, Depends(_desk)]
Limit = Annotated[int, Query(ge=1, le=PAGE_ROWS_MAX)]
Cursor = Annotated[str | None, Query(max_length=500)]


@router.get("/notices", dependencies=[may("notice.read")])
async def list_notices(
    desk: Desk,
    actor: Acting,
    state: Literal["waiting", "sent", "skipped", "failed"] | None = None,
    who: Annotated[str | None, Query(max_length=210)] = None,
    saga: Annotated[str | None, Query(max_length=200)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """Notices, newest first."""
    try:
        found, following = await desk.notices(
            actor.tenant, state=state, who=who, saga_id=saga, limit=limit, cursor=cursor or ""
        )
    except BadCursorError as error:
        raise ProblemError("bad_cursor", str(error)) from error
    return respond(Page(tuple(found), following))


@router.get("/notices/{notice_id}", dependencies=[may("notice.read")])
async def show(notice_id: NoticeId, desk: Desk, actor: Acting) -> Response:
    """One notice and what became of it."""
    return respond(await _known(desk, actor.tenant, notice_id))


@router.post("/notices/{notice_id}/retry", status_code=202, dependencies=[may("notice.send")])
async def retry(
    notice_id: NoticeId, body: ReasonBody, request: Request, engine: EngineOf, desk: Desk, actor: Acting
) -> Response:
    """Sends a failed notice again, under its own id."""

    async def work() -> Response:
        found = await _known(desk, actor.tenant, notice_id)
        if not await desk.again(actor.tenant, notice_id, f"{actor.id}: {body.reason}"):
            raise RefusedError("not_failed", f"Notice {notice_id} is {found.state}; only a failed one is sent again.")
        return respond(await _known(desk, actor.tenant, notice_id), 202)

    return await once(request, actor, engine.answers, work)


@router.get("/notice-contacts", dependencies=[may("contact.manage")])
async def list_contacts(
    desk: Desk,
    actor: Acting,
    who: Annotated[str | None, Query(max_length=210)] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """The address book, by name."""
    try:
        found, following = await desk.contacts(actor.tenant, who=who, limit=limit, cursor=cursor or "")
    except BadCursorError as error:
        raise ProblemError("bad_cursor", str(error)) from error
    return respond(Page(tuple(found), following))


@router.post("/notice-contacts", dependencies=[may("contact.manage")])
async def put_contact(body: ContactBody, desk: Desk, actor: Acting) -> Response:
    """Writes an entry of the address book, new or in place of the one that is there."""
    try:
        await desk.put(actor.tenant, body.who, body.channel, body.address, body.wishes(), actor.id)
    except AddressError as error:
        raise ProblemError("invalid", str(error)) from error
    found, _ = await desk.contacts(actor.tenant, who=body.who, limit=PAGE_ROWS_MAX, cursor="")
    return respond(next(view for view in found if view.channel == body.channel))


@router.post("/notice-contacts/remove", dependencies=[may("contact.manage")])
async def remove_contact(body: RemoveBody, desk: Desk, actor: Acting) -> Response:
    """Removes an entry of the address book."""
    if not await desk.drop(actor.tenant, body.who, body.channel):
        raise RefusedError("not_found", f"There is no {body.channel} of {body.who[:80]!r} in the address book.")
    return respond({"removed": True})


@router.get("/notice-preferences", dependencies=[may("own")])
async def wishes(desk: Desk, actor: Acting) -> Response:
    """How you are told, by channel."""
    return respond({"items": await desk.wishes(actor.tenant, actor.id)})


@router.post("/notice-preferences", dependencies=[may("own")])
async def wish(body: WishesBody, desk: Desk, actor: Acting) -> Response:
    """Changes when and how you are told. Escalations come at once, whatever you choose."""
    try:
        return respond(await desk.wish(actor.tenant, actor.id, body.channel, body.wishes()))
    except AddressError as error:
        raise ProblemError("invalid", str(error)) from error


async def _known(desk: NoticeDesk, tenant: str, notice_id: int) -> NoticeView:
    found = await desk.notice(tenant, notice_id)
    if found is None:
        raise RefusedError("not_found", f"There is no notice {notice_id}.")
    return found
