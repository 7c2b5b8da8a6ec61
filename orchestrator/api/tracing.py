"""The trace of a request: taken from its `traceparent`, or begun here, so that every answer names one."""

from __future__ import annotations

import re
import secrets

from fastapi import Request

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")


def traceparent_of(request: Request) -> str:
    """The W3C traceparent of this request; the same for every call within it."""
    known: str | None = getattr(request.state, "traceparent", None)
    if known is None:
        given = request.headers.get("traceparent", "")
        known = given if _TRACEPARENT.fullmatch(given) else f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
        request.state.traceparent = known
    return known


def trace_id_of(request: Request) -> str:
    """The 32 hex digits of the request's trace."""
    return traceparent_of(request).split("-")[1]
