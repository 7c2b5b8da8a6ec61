"""The trace of a request: taken from its `traceparent`, or begun here, so that every answer names one."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping

from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.runtime.identity import begun_here
from orchestrator.telemetry import REDACTED
from orchestrator.tracing.acting import MOVED, Moved
from orchestrator.tracing.requests import Served
from orchestrator.tracing.sampling import PARENT_ALONE, Sampler

ACTS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?=:|$)")
_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")


def traceparent_of(request: Request) -> str:
    """The W3C traceparent of this request; the same for every call within it."""
    known: str | None = getattr(request.state, "traceparent", None)
    if known is None:
        given = request.headers.get("traceparent", "")
        app = request.scope.get("app")  # none where a middleware is served alone
        sampler: Sampler = getattr(app.state, "sampler", PARENT_ALONE) if app is not None else PARENT_ALONE
        known = given if _TRACEPARENT.fullmatch(given) else begun_here(secrets.token_hex(16), sampler)
        request.state.traceparent = known
    return known


def trace_id_of(request: Request) -> str:
    """The 32 hex digits of the request's trace."""
    return traceparent_of(request).split("-")[1]


def told_path(route: str, values: Mapping[str, object]) -> str:
    """The path of a request as it may leave the product: ids stay, what people chose (a key, a name) does not.

    Of a task's id that of its saga stays: the rest comes from whoever asks.
    """

    def told(found: re.Match[str]) -> str:
        value = str(values.get(found[1], ""))
        id_ = _ID.match(value)
        return REDACTED if id_ is None else value if id_.end() == len(value) else f"{id_[0]}:{REDACTED}"

    return _PARAMETER.sub(told, route)


class Traced:
    """Notes each act that is served, not what is only read, for the spans of requests. `add` None: nothing is noted."""

    def __init__(self, app: ASGIApp, add: Callable[[Served], None] | None) -> None:
        self._app, self._add = app, add

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if self._add is None or scope["type"] != "http" or scope["method"] not in ACTS:
            await self._app(scope, receive, send)
            return
        moved: list[Moved] = []
        token = MOVED.set(moved)
        began_ns, began = time.time_ns(), time.perf_counter_ns()
        status = 500

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        finally:
            MOVED.reset(token)
            ended_ns = began_ns + time.perf_counter_ns() - began
            route = getattr(scope.get("route"), "path", "")
            traceparent = traceparent_of(Request(scope))
            self._add(
                Served(
                    scope["method"],
                    route,
                    scope["scheme"],
                    status,
                    began_ns,
                    ended_ns,
                    traceparent,
                    tuple(moved),
                    told_path(route, scope.get("path_params", {})),
                )
            )
