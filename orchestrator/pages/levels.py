"""Service levels: the figures that were promised, each with its target, window and what it is a share of.

Rules of this file
- A rate of few cases misleads: below CASES_MIN a tile shows the two numbers and no percentage.
- Charts are drawn here as SVG, and each stands beside a table with the same numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import Response

from orchestrator.api.engine import Acting, may
from orchestrator.api.problems import ProblemError
from orchestrator.api.views import Actor
from orchestrator.identity.rules import may as is_allowed
from orchestrator.pages.drawing.charts import bars, trend
from orchestrator.pages.drawing.spans import span
from orchestrator.pages.odd_text import Html
from orchestrator.pages.reading import ModelsOf
from orchestrator.pages.site import office_router, page, query_text
from projections.answers import Level, Series, Tiles

router = office_router()

CASES_MIN = 20
WINDOWS = {"1d": ("Last day", 1), "7d": ("Last 7 days", 7), "30d": ("Last 30 days", 30), "90d": ("Last 90 days", 90)}

# The records that a figure is made of; any other figure is made of the ends of sagas.
_RECORDS = {"completed": "saga.completed", "compensation": "undo.", "escalation": "task.escalated",
            "adherence": "task.decided", "recovery": "step.", "audit": "saga."}  # fmt: skip

Word = Annotated[str, Query(max_length=200)]


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure as it is shown."""

    level: Level
    value: str
    part: str
    target: str
    verdict: tuple[str, str]
    trend: Html
    href: str


@router.get("/levels", dependencies=[may("levels.read")])
async def levels(request: Request, models: ModelsOf, actor: Acting, window: Word = "30d", name: Word = "") -> Response:
    """All figures of a window."""
    window = window if window in WINDOWS else "30d"
    length = timedelta(days=WINDOWS[window][1])
    answer = await models.levels.tiles(actor.tenant, window=length, name=name)
    series = [await models.levels.series(actor.tenant, one.key, window=length, name=name) for one in answer.levels]
    here = {"window": window, "name": name}
    crowded = await models.timelines.bottlenecks(actor.tenant, name=name or None)
    tabs = [(label, query_text(window=key, name=name), key == window, None) for key, (label, _) in WINDOWS.items()]
    return page(
        request,
        actor,
        "levels/page.html",
        window=window,
        name=name,
        tabs=tabs,
        seconds=_seconds,
        answer=answer,
        tiles=[tile(one, found, here) for one, found in zip(answer.levels, series, strict=True)],
        names=await models.levels.names(actor.tenant),
        bottlenecks=crowded.items[:10],
    )


@router.get("/levels/{key}", dependencies=[may("levels.read")])
async def level(
    request: Request, models: ModelsOf, actor: Acting, key: str, window: Word = "30d", name: Word = ""
) -> Response:
    """One figure over time, as a chart and as a table."""
    window = window if window in WINDOWS else "30d"
    length = timedelta(days=WINDOWS[window][1])
    tiles = await models.levels.tiles(actor.tenant, window=length, name=name)
    found = next((one for one in tiles.levels if one.key == key), None)
    if found is None:
        raise ProblemError("no_route", f"There is no service level {key[:40]!r}.")
    series = await models.levels.series(actor.tenant, key, window=length, name=name)
    measured = [point for point in series.points if point.level.whole]
    return page(
        request,
        actor,
        "levels/level.html",
        tile=tile(found, series, {"window": window, "name": name}),
        chart=chart(series),
        rows=[(point.at, _value(point.level), _part(point.level)) for point in reversed(measured)],
        is_cut=len(measured) < len(series.points),
        behind=_behind(actor, key, tiles, name),
        window=WINDOWS[window][0],
        window_key=window,
        name=name,
        complete=series.complete,
    )


def _behind(actor: Actor, key: str, tiles: Tiles, name: str) -> str:
    """Exactly what a figure was made of: its records in the audit trail; for those who may not see that, the sagas."""
    if not is_allowed(actor, "audit.read"):
        return f"/office/sagas{query_text(name=name)}"
    since, until = tiles.since.isoformat(), tiles.until.isoformat()
    return f"/office/audit{query_text(action=_RECORDS.get(key, 'saga.'), name=name, since=since, until=until)}"


def tile(one: Level, series: Series, here: dict[str, str]) -> Tile:
    """How a figure is shown."""
    verdicts = {True: ("good", "meets its target"), False: ("bad", "misses its target"), None: ("idle", "no target")}
    verdict = verdicts[one.good]
    if one.value is None:
        verdict = ("idle", "nothing measured")
    elif one.unit == "rate" and one.whole < CASES_MIN:
        verdict = ("idle", "too few for a rate")
    target = "" if one.target is None else f"{'at least' if one.at_least else 'at most'} {_number(one, one.target)}"
    values = [point.level.value for point in series.points]
    return Tile(one, _value(one), _part(one), target, verdict, trend(values, one.target), query_text(**here))


def chart(series: Series) -> Html:
    """The series as bars."""
    points = series.points
    top = 1.0 if points and points[0].level.unit == "rate" else 0.0
    return bars(
        [(f"{point.at:%d %b}", point.level.value, point.level.good is not False) for point in points],
        target=points[0].level.target if points else None,
        top=top,
        label=lambda value: _number(points[0].level, value) if points else "",
        title=f"{points[0].level.label if points else series.key} over time",
    )


def _value(one: Level) -> str:
    """A percentage only where there are enough cases; else the two numbers."""
    if one.value is None:
        return "—"
    if one.unit == "rate" and one.whole < CASES_MIN:
        return f"{one.part:,} of {one.whole:,}"
    return _number(one, one.value)


def _number(one: Level, value: float) -> str:
    return f"{value * 100:.1f} %" if one.unit == "rate" else _seconds(value)


def _part(one: Level) -> str:
    return f"{one.part:,} of {one.whole:,}" if one.unit == "rate" else f"of {one.whole:,} measured"


def _seconds(value: float | None) -> str:
    return span(timedelta(seconds=value)) if value is not None else "—"
