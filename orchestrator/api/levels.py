"""Routes of service levels, of where sagas stand, of what customers may see, and of how read models are."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import Response

from orchestrator.api.audit import Instant, PageSize, Text, answered, caught_up, in_problems
from orchestrator.api.engine import Acting, Actor, Engine, EngineOf, may
from orchestrator.api.problems import ProblemError
from orchestrator.api.shapes import respond, shape
from orchestrator.api.views import RefusedError
from projections.answers import Level, ProjectionState

router = APIRouter(prefix="/v1", tags=["service levels"])

HOURS_MAX = 24 * 400
ELSEWHERE = "the house that runs this installation can see why"

Hours = Annotated[int, Query(ge=1, le=HOURS_MAX)]


@router.get("/service-levels", dependencies=[may("levels.read")])
async def tiles(engine: EngineOf, actor: Acting, hours: Hours = 24 * 30, name: Text = None) -> Response:
    """All service levels of a window that ends now, with the numbers behind each. `name`: of one definition."""
    found = await engine.models.levels.tiles(actor.tenant, window=timedelta(hours=hours), name=name or "")
    return respond({**shape(found), "levels": [_level(level) for level in found.levels]})


@router.get("/service-levels/{key}", dependencies=[may("levels.read")])
async def series(
    key: str,
    engine: EngineOf,
    actor: Acting,
    hours: Hours = 24 * 30,
    name: Text = None,
    points: Annotated[int, Query(ge=1, le=200)] = 30,
) -> Response:
    """The trend of one level, oldest first."""
    try:
        found = await engine.models.levels.series(
            actor.tenant, key, window=timedelta(hours=hours), name=name or "", points=points
        )
    except KeyError as error:
        raise RefusedError("not_found", f"There is no service level {key[:80]!r}.") from error
    points_shown = [{"at": shape(point.at), **_level(point.level)} for point in found.points]
    return respond({**shape(found), "points": points_shown})


@router.get("/journeys", dependencies=[may("saga.read")])
async def journeys(
    engine: EngineOf,
    actor: Acting,
    name: Text = None,
    version: Annotated[int | None, Query(ge=1, le=2**31 - 1)] = None,
    key: Text = None,
    customer: Text = None,
    phase: Text = None,
    outcome: Text = None,
    place: Text = None,
    stuck: bool | None = None,
    since: Instant = None,
    until: Instant = None,
    after: Text = None,
    limit: PageSize = 50,
    cursor: Text = None,
) -> Response:
    """Sagas by what people know of them, newest first, with where each stands."""
    with in_problems():
        is_caught_up = await caught_up(engine, actor, after, "journeys")
        known = await engine.known_as(actor, customer)
        answer = await engine.models.timelines.search(
            actor.tenant, name=name, version=version, business_key=key, customer=known, phase=phase, outcome=outcome,
            place=place, stuck=stuck, since=since, until=until, limit=limit, cursor=cursor or "",
        )  # fmt: skip
    return answered(answer, is_caught_up=is_caught_up)


@router.get("/journeys/risky", dependencies=[may("saga.read")])
async def risky(engine: EngineOf, actor: Acting, limit: PageSize = 50, cursor: Text = None) -> Response:
    """Sagas that something is due in, the next due first: those overdue lead."""
    with in_problems():
        return answered(await engine.models.timelines.risky(actor.tenant, limit=limit, cursor=cursor or ""))


@router.get("/journeys/bottlenecks", dependencies=[may("saga.read")])
async def bottlenecks(engine: EngineOf, actor: Acting, name: Text = None) -> Response:
    """Where sagas stand, the most crowded node first."""
    return answered(await engine.models.timelines.bottlenecks(actor.tenant, name=name))


@router.get("/sagas/{reference}/timeline", dependencies=[may("saga.read")])
async def timeline(reference: str, engine: EngineOf, actor: Acting, after: Text = None) -> Response:
    """One saga in time: what is behind it, where it stands, what remains, and when it will probably be over."""
    saga = await engine.saga(reference, actor)
    with in_problems():
        is_caught_up = await caught_up(engine, actor, after, "journeys")
    found = await engine.models.timelines.of(actor.tenant, saga.saga_id)
    if found is None:
        text = "The read model has not got this saga yet: try again in a moment."
        raise ProblemError("not_found", text, headers={"Retry-After": "1"})
    return respond({**shape(found), "caughtUp": is_caught_up})


@router.get("/progress/{business_key}", dependencies=[may("saga.read")])
async def progress(
    business_key: str, customer: Annotated[str, Query(min_length=1, max_length=200)], engine: EngineOf, actor: Acting
) -> Response:
    """What a customer may see of their saga. `customer`: the one who is signed in at the service that asks."""
    found = await engine.models.customers.progress(actor.tenant, business_key, await engine.known_as(actor, customer))
    if found is None:
        raise RefusedError("not_found", f"Customer {customer[:80]!r} has nothing under {business_key[:80]!r}.")
    return respond(found)


@router.get("/projections", dependencies=[may("saga.read")])
async def states(engine: EngineOf, actor: Acting) -> Response:
    """How every read model is: how far it has come, whether it is stopped and by which record."""
    found = await model_states(engine, actor)
    return respond({"items": [{**shape(state), "lag": state.complete.lag} for state in found]})


async def model_states(engine: Engine, actor: Actor) -> list[ProjectionState]:
    """How read models are. The record that stopped one may be anybody's, so other tenants do not read its reason."""
    found = await engine.models.states()
    if actor.tenant == engine.home:
        return list(found)
    return [replace(state, reason=ELSEWHERE if state.reason else "") for state in found]


def _level(level: Level) -> dict[str, Any]:
    return {**shape(level), "good": level.good}
