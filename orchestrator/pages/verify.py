"""Audit, verify: what was signed and published, and a verification of the youngest records while one waits.

Rules of this file
- The log is one for all tenants. What was found is told in full where there is one tenant; else by kind and position,
  since a text may name somebody else's saga.
- A page reads a bounded number of records, one page at a time in a process. The whole log is for the command line.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from fastapi.responses import Response

from orchestrator.api.engine import Acting, may
from orchestrator.evidence.findings import Report
from orchestrator.evidence.reading import Allowance, Break, Evidence, PlaceState, StoredCheckpoint
from orchestrator.evidence.verifying import Verification
from orchestrator.pages.profile import Profile
from orchestrator.pages.site import office_router, page
from orchestrator.runtime.app import Runtime

router = office_router()

RECORDS_MAX = 20_000
FINDINGS_SHOWN = 50

_one_at_a_time = asyncio.Lock()


@dataclass(frozen=True, slots=True)
class Signed:
    """What the page shows of checkpoints. `waiting`: records that no checkpoint covers yet."""

    latest: StoredCheckpoint | None
    signed_at: datetime | None
    waiting: int
    places: list[tuple[PlaceState, datetime | None]]
    breaks: list[Break]
    allowed: list[tuple[Allowance, datetime | None, datetime | None]]
    keys: list[str]


@router.get("/audit/verify", dependencies=[may("audit.verify")])
async def verify(request: Request, actor: Acting, run: Annotated[Literal["", "recent"], Query()] = "") -> Response:
    """What was signed and where it went; with `run=recent` a verification of the youngest records."""
    runtime: Runtime = request.app.state.runtime
    signed = await _signed(runtime)
    report = await _verified(runtime) if run and signed.keys else None
    is_alone = len(runtime.settings.tenants) == 1
    profile: Profile = getattr(request.state, "profile", Profile())
    return page(
        request, actor, "audit/verify.html", signed=signed, report=report, records_max=RECORDS_MAX,
        lines=list(report.lines(profile.zone))[:1] if report and (is_alone or report.is_good) else [],
        findings=_told(report, is_alone=is_alone), busy=bool(run) and report is None and bool(signed.keys),
    )  # fmt: skip


async def _signed(runtime: Runtime) -> Signed:
    evidence = Evidence(runtime.store.pools)
    latest, places, breaks, end, allowed = await asyncio.gather(
        evidence.latest(), evidence.places(), evidence.breaks(), evidence.sealed(), evidence.allowances()
    )
    ring = runtime.evidence.ring
    return Signed(
        latest,
        _instant(latest.signed_at) if latest else None,
        max(0, end - (latest.size if latest else 0)),
        [(one, _instant(one.published_at)) for one in places],
        breaks,
        [(one, _instant(one.allowed_at), _instant(one.until)) for one in allowed],
        ring.vkeys if ring is not None else [],
    )


async def _verified(runtime: Runtime) -> Report | None:
    """None where another page is at it."""
    ring = runtime.evidence.ring
    if ring is None or _one_at_a_time.locked():
        return None
    async with _one_at_a_time:
        end = await Evidence(runtime.store.pools).sealed()
        return await Verification(runtime.store, ring).run(max(1, end - RECORDS_MAX + 1))


def _told(report: Report | None, *, is_alone: bool) -> list[dict[str, Any]]:
    if report is None:
        return []
    return [
        {"kind": one.kind, "position": one.position, "text": one.text if is_alone else ""}
        for one in report.in_order()[:FINDINGS_SHOWN]
    ]


def _instant(micros: int) -> datetime | None:
    return datetime.fromtimestamp(micros / 1_000_000, UTC) if micros else None
