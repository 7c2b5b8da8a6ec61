"""`/healthz`: the process lives. `/readyz`: every loop has made progress lately, and the database answers.
`/metrics`: its figures, for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from orchestrator.api.engine import Acting, EngineOf, may
from orchestrator.api.problems import ProblemError
from orchestrator.api.shapes import respond
from orchestrator.api.views import RefusedError

router = APIRouter(tags=["health"])


@router.get("/healthz", dependencies=[may("public")])
async def healthz() -> Response:
    """200 while this process can answer at all. Says nothing of what it consists of."""
    return respond({"ok": True})


@router.get("/readyz", dependencies=[may("public")])
async def readyz(request: Request, engine: EngineOf) -> Response:
    """200 when work is being done; 503 with each part that makes no progress."""
    reasons = await engine.not_ready()
    if request.app.state.stopping.is_set():
        reasons.append("the process is stopping")
    if reasons:
        raise ProblemError(
            "not_ready",
            "; ".join(reasons)[:500],
            errors=[{"detail": reason, "pointer": ""} for reason in reasons],
            headers={"Retry-After": "1"},
        )
    return respond({"ok": True})


@router.get("/metrics", dependencies=[may("metrics.read")])
async def metrics(request: Request, engine: EngineOf, actor: Acting) -> Response:
    """The figures of this process, as Prometheus reads them. They are of all tenants together: for the house alone."""
    if actor.tenant != engine.home:
        raise RefusedError("not_allowed", "Figures of all tenants together are read by people of this house alone.")
    body, content_type = await request.app.state.metrics.text(request.headers.get("accept", ""))
    return Response(body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})
