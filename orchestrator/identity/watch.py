"""The outermost layer of the application: names that reach us, credentials in the wrong place, and the security log.

Rules of this file
- A request by a name that is not ours, or that a proxy may have read differently, is refused before anything else, as
  is a credential in the address, where logs, histories and other sites' `Referer` would keep it.
- Each request is logged once, when its answer begins: what asked for something protected, and what was refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import structlog
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.api.problems import ProblemError, answer
from orchestrator.api.tracing import trace_id_of
from orchestrator.api.views import Actor
from orchestrator.identity.addresses import host_is_allowed
from orchestrator.identity.gate import Identity, unknown
from orchestrator.identity.rules import PUBLIC
from orchestrator.identity.security_log import Entry, visible

# Names under which credentials are put into addresses.
_SECRETS = frozenset({"access_token", "id_token", "refresh_token", "token", "api_key", "apikey", "authorization"})
_PARAMETERS_MAX = 200
NOT_FOUND = 404
PROBES = frozenset({"/healthz", "/readyz"})
BEAT_SECONDS = 0.04  # what is not there is said at multiples of this since the request came


def to_beat(elapsed: float) -> float:
    """Seconds until the next beat. To find out that something is another's takes a look at it, to find nothing does
    not: whoever guesses ids must not learn from the time that it takes which of them exist."""
    return BEAT_SECONDS - elapsed % BEAT_SECONDS


class Watch:
    """ASGI middleware. `actions`: endpoint to the action that its route states; filled when the routes are there."""

    def __init__(self, app: ASGIApp, identity: Identity, actions: Mapping[Any, str]) -> None:
        self.app, self._identity, self._actions = app, identity, actions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        # Begins the trace where there is none, for all that follows, and names it in every line of the log.
        with structlog.contextvars.bound_contextvars(trace_id=trace_id_of(request)):
            await self._watched(request, scope, receive, send)

    async def _watched(self, request: Request, scope: Scope, receive: Receive, send: Send) -> None:
        logged, clock = False, asyncio.get_running_loop().time
        came_at = clock()

        async def noting(message: Message) -> None:
            nonlocal logged
            if message["type"] == "http.response.start" and not logged:
                logged = True
                self._note(request, message["status"])
                if message["status"] == NOT_FOUND:
                    await asyncio.sleep(to_beat(clock() - came_at))
            await send(message)

        refused = self._refusal(request)
        try:
            if refused is not None:
                refused.headers["Connection"] = "close"  # its body is not read
                await answer(request, refused)(scope, receive, noting)
            else:
                await self.app(scope, receive, noting)
        except BaseException:
            if not logged:
                self._note(request, 500)
            raise

    def _refusal(self, request: Request) -> ProblemError | None:
        hosts = request.headers.getlist("host")
        # Whoever watches over processes asks each of them by its address, and learns nothing but that it lives.
        names = frozenset[str]() if request.url.path in PROBES else self._identity.settings.host_names
        if len(hosts) > 1 or not host_is_allowed("".join(hosts), names):
            return ProblemError("bad_request", "This is not a name by which this product may be called.")
        if "content-length" in request.headers and "transfer-encoding" in request.headers:
            return ProblemError("bad_request", "The request says twice, and differently, how long it is.")
        try:
            named = parse_qsl(request.url.query, keep_blank_values=True, max_num_fields=_PARAMETERS_MAX)
        except ValueError:
            return ProblemError("bad_request", "The address has too many parameters.")
        if any(name.lower() in _SECRETS for name, _ in named):
            return unknown("A credential in the address is refused: it stays in logs and histories. Send a header.")
        return None

    def _note(self, request: Request, status: int) -> None:
        state = request.state
        action = getattr(state, "action", "") or self._actions.get(request.scope.get("endpoint"), "")
        # What everybody may is noted where it was refused; that we are not ready is no refusal.
        problem = getattr(state, "problem", "")
        if action in ("", PUBLIC) and (status < 400 or status >= 500):
            return
        actor: Actor | None = getattr(state, "actor", None) or getattr(state, "cookie_of", None)
        self._identity.log.add(
            Entry(
                datetime.now(UTC),
                actor.tenant if actor is not None else "",
                visible(actor.id) if actor is not None else "",
                actor.authentication if actor is not None else "",
                action,
                visible(request.url.path),
                "failed" if status >= 500 else "refused" if status >= 400 or problem else "allowed",
                status,
                problem,
                trace_id_of(request),
                self._identity.address(request),
            )
        )
