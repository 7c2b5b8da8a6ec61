"""Problems of the back office as pages: what it means, what to do, a reference; never a dead end.

Rules of this file
- Only for requests under /office that want HTML; everybody else gets the problem as JSON.
- A handler that leads somewhere else (whoever is not known, to the sign-in) is left to do so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from orchestrator.api.away import AWAY
from orchestrator.api.problems import PROBLEMS, ProblemError, from_exception
from orchestrator.api.tracing import trace_id_of
from orchestrator.api.views import Actor, RefusedError
from orchestrator.pages.site import page

Handler: TypeAlias = Callable[[Request, Any], Awaitable[Response]]

_KINDS = (ProblemError, RefusedError, RequestValidationError, HTTPException, *AWAY, Exception)
_BY_STATUS = {404: "no_route", 405: "method_not_allowed"}


def install(app: FastAPI) -> None:
    """Puts pages before the handlers that are there."""
    for kind in _KINDS:
        inner = app.exception_handlers.get(kind)
        if inner is not None:
            app.exception_handlers[kind] = _page_or(inner)


def _page_or(inner: Any) -> Handler:
    async def handle(request: Request, error: Exception) -> Response:
        plain: Response = await inner(request, error)
        if plain.status_code < 400 or "hx-redirect" in plain.headers or not _is_for_people(request):
            return plain
        return as_page(request, error, plain)

    return handle


def _is_for_people(request: Request) -> bool:
    path, accepted = request.url.path, request.headers.get("accept", "")
    return path.startswith("/office") and not path.startswith("/office/assets") and "text/html" in accepted


def as_page(request: Request, error: Exception, plain: Response) -> Response:
    """The page of a problem. `plain`: the answer that anybody else would get; its status and headers hold here, too."""
    status = plain.status_code
    code, detail = _said(error, status)
    problem = PROBLEMS.get(code) or PROBLEMS["internal"]
    actor = getattr(request.state, "actor", None) or Actor("")
    kept = {name: value for name, value in plain.headers.items() if name in ("retry-after", "connection", "allow")}
    return page(
        request, actor, "error.html", status=status, headers=kept,
        title=problem.title, meaning=problem.meaning, remedy=problem.remedy, detail=detail, code=code,
        http_status=status, back="", reference=trace_id_of(request),
    )  # fmt: skip


def _said(error: Exception, status: int) -> tuple[str, str]:
    if isinstance(error, RefusedError):
        return error.code, error.text
    if isinstance(error, ProblemError):
        return error.code, error.detail
    if isinstance(error, RequestValidationError):
        return "bad_request", "; ".join(str(item["msg"]) for item in error.errors()[:3])
    if isinstance(error, HTTPException):
        return _BY_STATUS.get(status, "bad_request"), ""
    return from_exception(error).code, ""
