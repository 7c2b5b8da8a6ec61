"""How long the HTTP server takes, by route, as OpenTelemetry's conventions for HTTP have it.

Rules of this file
- A route is the template of a path (`/v1/tasks/{task_id}/decide`); what matches none has no route, whatever was asked
  for, so nobody makes series from outside.
- A method that the conventions do not know is `_OTHER`.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.metrics import names
from orchestrator.metrics.figures import Figures
from orchestrator.telemetry import HTTP_METHODS, OTHER

SERVER_ERROR = 500


class RequestFigures:
    """Counts requests of one server."""

    def __init__(self, figures: Figures) -> None:
        self._took = figures.histogram(names.REQUEST_DURATION)

    def served(self, method: str, scheme: str, route: str, status: int, seconds: float) -> None:
        """One request that was answered."""
        known = method if method in HTTP_METHODS else OTHER
        code = str(status)
        self._took.observe((known, scheme, route, code, code if status >= SERVER_ERROR else ""), seconds)


class Measured:
    """Measures each request that is served."""

    def __init__(self, app: ASGIApp, served: Callable[[str, str, str, int, float], None]) -> None:
        self._app, self._served = app, served

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = perf_counter(), SERVER_ERROR

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "")
            self._served(scope["method"], scope["scheme"], route, status, perf_counter() - began)
