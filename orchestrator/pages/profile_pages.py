"""Routes of one's own: how the pages are read, and who stands in while one is away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from fastapi import Query, Request
from fastapi.responses import RedirectResponse, Response

from orchestrator.api.engine import Acting, Engine, EngineOf, may
from orchestrator.api.views import Actor, RefusedError
from orchestrator.identity.rules import may as is_allowed
from orchestrator.notices.desk import NoticeDesk
from orchestrator.notices.preferences import PreferenceError, Preferences, minute_of
from orchestrator.notices.words import AddressError
from orchestrator.pages.formats import is_locale, is_zone
from orchestrator.pages.profile import THEMES, Profile
from orchestrator.pages.reading_forms import SentForm, form_of
from orchestrator.pages.site import office_router, page
from orchestrator.pages.task_pages import status_of

PATH = "/office/profile"
# Language and region decide how numbers, amounts and dates are written; the words are English.
LOCALES = (
    ("en_GB", "1,234,567.89 · 21 Nov 2026 (United Kingdom)"),
    ("en_US", "1,234,567.89 · Nov 21 2026 (United States)"),
    ("en_IN", "12,34,567.89 · 21 Nov 2026 (India)"),
    ("en_AU", "1,234,567.89 · 21 Nov 2026 (Australia)"),
    ("en_ZA", "1 234 567,89 · 21 Nov 2026 (South Africa)"),
    ("de_DE", "1.234.567,89 (Germany)"),
    ("de_CH", "1'234'567.89 (Switzerland)"),
    ("fr_FR", "1 234 567,89 (France)"),
)

# How one may be told, with what it means.
DELIVERIES = (
    ("at_once", "At once", "Each as it comes."),
    ("digest", "Once a day", "Together; one whose task is due sooner comes at once."),
    ("escalations", "Escalations only", "Nothing else."),
)

router = office_router()


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with the form."""

    id: str
    text: str


@router.get("/profile", dependencies=[may("own")])
async def profile(
    request: Request, engine: EngineOf, actor: Acting, saved: Annotated[str, Query(max_length=10)] = ""
) -> Response:
    """One's settings."""
    return await _page(request, engine, actor, request.state.profile, saved=saved)


@router.post("/profile", dependencies=[may("own")])
async def save(request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Keeps them."""
    form = await form_of(request)
    wanted = Profile(form.one("locale"), form.one("zone").strip(), form.one("theme"), form.one("shortcuts") == "true")
    wrong = [
        *([] if is_zone(wanted.zone) else [Wrong("zone", "Time zone: one of the IANA list, like Asia/Kolkata.")]),
        *([] if is_locale(wanted.locale) else [Wrong("locale", "Numbers and dates: choose one of the list.")]),
        *([] if wanted.theme in THEMES else [Wrong("theme", "Colours: choose one of the list.")]),
    ]
    if wrong:
        return await _page(request, engine, actor, wanted, wrong=wrong, status=422)
    await request.app.state.keeping.save_profile(actor.tenant, actor.id, wanted)
    return RedirectResponse(f"{PATH}?saved=yes", 303)


@router.post("/profile/notices", dependencies=[may("own")])
async def notices(request: Request, engine: EngineOf, actor: Acting) -> Response:
    """When and how one is told. Escalations come at once, whatever one chooses."""
    form = await form_of(request)
    desk: NoticeDesk = request.app.state.notices
    channel: Any = form.one("channel")
    try:
        known = [one for one in await desk.wishes(actor.tenant, actor.id) if one.channel == channel]
        if not known:
            raise PreferenceError("choose one of the ways in which you are told")
        clocks = [minute_of(form.one(name).strip()) for name in ("digest_at", "quiet_from", "quiet_to")]
        delivery: Any = form.one("delivery")
        wanted = Preferences(known[0].language, form.one("notice_zone").strip(), delivery, *clocks)
        await desk.wish(actor.tenant, actor.id, channel, wanted)
    except (PreferenceError, AddressError) as error:
        wrong = [Wrong(f"notices-{channel if channel == 'webhook' else 'mail'}", f"How you are told: {error}.")]
        return await _page(request, engine, actor, request.state.profile, wrong=wrong, status=422)
    return RedirectResponse(f"{PATH}?saved=notices", 303)


@router.post("/profile/absence", dependencies=[may("task.work")])
async def absent(request: Request, engine: EngineOf, actor: Acting) -> Response:
    """Somebody stands in, from a time until a time, with no right that one has not oneself."""
    form = await form_of(request)
    try:
        until = _instant(form, "until", request)
        if until is None:
            raise RefusedError("invalid", "Until: say when you are back.")
        await engine.desk.substitute(
            actor, form.one("substitute").strip(), until=until, since=_instant(form, "since", request),
            reason=form.one("reason"),
        )  # fmt: skip
    except RefusedError as error:
        wrong = [Wrong("substitute", error.text)]
        return await _page(request, engine, actor, request.state.profile, wrong=wrong, status=status_of(error))
    return RedirectResponse(f"{PATH}?saved=absence", 303)


@router.post("/profile/absence/{number}/end", dependencies=[may("own")])
async def back(number: int, engine: EngineOf, actor: Acting) -> Response:
    """One is back earlier."""
    await engine.desk.end_substitution(actor, number)
    return RedirectResponse(f"{PATH}?saved=absence", 303)


async def _page(
    request: Request, engine: Engine, actor: Actor, profile: Profile, *, wrong: list[Wrong] | None = None,
    saved: str = "", status: int = 200,
) -> Response:  # fmt: skip
    now = datetime.now(UTC)
    absences = [one for one in await engine.desk.substitutions(actor) if one.ended_at is None and one.until > now]
    desk: NoticeDesk = request.app.state.notices
    return page(
        request, actor, "profile.html", status=status, deliveries=DELIVERIES, profile=profile, locales=LOCALES,
        told=await desk.wishes(actor.tenant, actor.id), zones=sorted(available_timezones()), wrong=wrong or [],
        saved=saved, absences=absences, may_lend=is_allowed(actor, "task.work"),
    )  # fmt: skip


def _instant(form: SentForm, name: str, request: Request) -> datetime | None:
    text = form.one(name).strip()
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise RefusedError("invalid", f"{name.capitalize()}: a date and a time, like 2026-01-31T17:00.") from error
    zone = ZoneInfo(request.state.profile.zone)
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(UTC)
