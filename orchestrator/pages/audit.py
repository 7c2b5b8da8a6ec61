"""Audit: who decided and did what, when, seeing what; as of any past instant; and the same rows to take away.

Rules of this file
- The address is the filter: the export beside the table takes exactly the same one, its as-of instant included.
- A record's page renders again what was shown, and says whether its hash is still that of what was decided on.
- Every answer says how far it is complete; a read model that lags never passes for the present.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Path, Query, Request
from fastapi.responses import Response, StreamingResponse

from orchestrator.api.engine import Acting, EngineOf, may
from orchestrator.api.views import Actor, RecordView, RefusedError
from orchestrator.identity.rules import may as is_allowed
from orchestrator.kernel.turn import subject_hash
from orchestrator.pages.profile import Profile
from orchestrator.pages.reading import ModelsOf, OfficeOf, own_cursor
from orchestrator.pages.site import office_router, page, query_text
from orchestrator.pages.when import field_of, instant_of
from orchestrator.wording import in_words
from projections.answers import AuditFilter

router = office_router()

ROWS = 100
FORMATS = {"csv": "text/csv; charset=utf-8", "jsonl": "application/x-ndjson"}
_TEXTS = ("saga", "key", "actor", "customer", "action", "outcome", "name")

Text = Annotated[str, Query(max_length=500)]
Number = Annotated[int, Path(ge=1, le=10_000_000)]


def wanted(query: Mapping[str, str], zone: str) -> tuple[AuditFilter, datetime | None, dict[str, str]]:
    """The filter of an address, its as-of instant, and the address again, with instants that do not depend on a zone.

    A person may be named without the prefix that records have.
    """
    texts = {name: query.get(name, "").strip()[:500] for name in _TEXTS}
    since, until = instant_of(query.get("since", ""), zone), instant_of(query.get("until", ""), zone)
    as_of = instant_of(query.get("as_of", ""), zone)
    actor = texts["actor"]
    found = AuditFilter(
        saga=texts["saga"] or None,
        business_key=texts["key"] or None,
        actor=(actor if ":" in actor else f"person:{actor}") if actor else None,
        customer=texts["customer"] or None,
        action=texts["action"] or None,
        outcome=texts["outcome"] or None,
        name=texts["name"] or None,
        since=since,
        until=until,
    )
    times = {"since": since, "until": until, "as_of": as_of}
    again = {**texts, **{name: at.isoformat() if at else "" for name, at in times.items()}}
    return found, as_of, again


@router.get("/audit", dependencies=[may("audit.read")])
async def audit(request: Request, models: ModelsOf, engine: EngineOf, actor: Acting, cursor: Text = "") -> Response:
    """Records, newest first, filtered."""
    zone = _zone(request)
    chosen, as_of, again = wanted(request.query_params, zone)
    chosen = replace(chosen, customer=await engine.known_as(actor, chosen.customer))
    with own_cursor():
        answer = await models.audit.search(
            actor.tenant, chosen, as_of=as_of, limit=ROWS, cursor=cursor, count=not cursor
        )
    return page(
        request,
        actor,
        "audit/search.html",
        answer=answer,
        here=again,
        fields={name: field_of(instant_of(again[name], zone), zone) for name in ("since", "until", "as_of")},
        as_of=as_of,
        next=query_text(**again, cursor=answer.next) if answer.next else "",
        first=query_text(**again) or "?" if cursor else "",
        export=query_text(**{**again, "as_of": again["as_of"] or datetime.now(UTC).isoformat()}),
        may_export=is_allowed(actor, "audit.export"),
        in_words=in_words,
        formats=list(FORMATS),
    )


@router.get("/audit/export", dependencies=[may("audit.export")])
async def export(
    request: Request,
    models: ModelsOf,
    engine: EngineOf,
    actor: Acting,
    format_: Annotated[Literal["csv", "jsonl"], Query(alias="format")] = "csv",
) -> Response:
    """The rows of a filter as a file, streamed; its last line says what it holds."""
    chosen, as_of, _ = wanted(request.query_params, _zone(request))
    chosen = replace(chosen, customer=await engine.known_as(actor, chosen.customer))
    rows = models.audit.export(actor.tenant, chosen, format_=format_, as_of=as_of)
    name = f"audit-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.{format_}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingResponse(rows, media_type=FORMATS[format_], headers=headers)


@router.get("/audit/pending", dependencies=[may("audit.read")])
async def pending(request: Request, models: ModelsOf, actor: Acting, cursor: Text = "", name: Text = "") -> Response:
    """What was pending at an instant, with whom, and how it stood with its time."""
    zone = _zone(request)
    at = instant_of(request.query_params.get("as_of", ""), zone)
    with own_cursor():
        answer = await models.approvals.as_of(actor.tenant, at, name=name or None, limit=ROWS, cursor=cursor)
    here = {"as_of": at.isoformat() if at else "", "name": name}
    return page(
        request,
        actor,
        "audit/pending.html",
        answer=answer,
        at=at,
        here=here,
        field=field_of(at, zone),
        next=query_text(**here, cursor=answer.next) if answer.next else "",
        first=query_text(**here) or "?" if cursor else "",
    )


@router.get("/audit/records/{saga_id}/{number}", dependencies=[may("audit.read")])
async def record(
    request: Request, engine: EngineOf, office: OfficeOf, actor: Acting, saga_id: str, number: Number
) -> Response:
    """One record: in words, in full, what was shown to whoever decided, and whether anything was altered."""
    saga = await engine.saga(saga_id, actor)
    records = list(await engine.records(saga.saga_id, actor))
    if number > len(records):
        raise RefusedError("not_found", f"This saga has {len(records)} records, and no record {number}.")
    one = records[number - 1]
    flaw, shown = await asyncio.gather(_flaw(office, actor, saga.saga_id), asyncio.to_thread(shown_at, records, one))
    return page(
        request, actor, "audit/record.html", saga=saga, record=one, words=in_words(one.type, one.data), flaw=flaw,
        may_pack=is_allowed(actor, "audit.export"),
        is_touched=flaw is not None and (flaw.version == 0 or flaw.version <= number), shown=shown, last=len(records),
    )  # fmt: skip


async def _flaw(office: OfficeOf, actor: Actor, saga_id: str) -> Any:
    return await office.verify(actor, saga_id)


def shown_at(records: list[RecordView], one: RecordView) -> dict[str, Any] | None:
    """What the person of a vote was shown, from the record that opened or last changed the task; None for others.

    `matches`: the hash that came back with the vote is the hash of what is rendered here, computed anew.
    """
    if not one.type.startswith("task.") or not one.activity:
        return None
    shown, source, hashed = None, None, None
    for before in records[: one.version]:
        if before.activity == one.activity and "shown" in before.data:
            shown, source = before.data["shown"], before
            hashed = before.written.get("shown", shown)  # as it is recorded: sealed where it is personal
    if source is None:
        return None
    vote = one.data.get("vote") if isinstance(one.data.get("vote"), Mapping) else None
    decided_on = str(vote.get("hash", "")) if vote else ""
    computed = subject_hash(hashed)
    return {
        "shown": shown, "record": source.version, "at": source.recorded_at, "computed": computed,
        "stored": str(source.data.get("hash", "")), "decided_on": decided_on, "vote": vote,
        "matches": computed == source.data.get("hash") and decided_on in ("", computed),
    }  # fmt: skip


def _zone(request: Request) -> str:
    profile: Profile = getattr(request.state, "profile", Profile())
    return profile.zone
