"""The door for request bodies: bounded before anything is buffered, and strict JSON before anybody reads it.

Rules of this file
- Every body passes here, also those of saga packages' own routes, so that no route can be more lenient than another.
- Refused: more bytes than the limit, compressed bodies, a byte order mark, NaN, infinities, doubled keys, lone
  surrogates, U+0000, integers beyond 2**53 and deep nesting. Other parsers would read something else, or fall over.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

import orjson
from fastapi import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.api.problems import ProblemError, answer
from orchestrator.messages.canonical import INTEGER_MAX

DEPTH_MAX = 64
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=(), payment=()"),
)
DATA_POLICY = b"default-src 'none'; frame-ancestors 'none'"
PAGE_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'self'; "
    b"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURE_ONLY = (b"strict-transport-security", b"max-age=63072000; includeSubDomains")


class StrictBody:
    """ASGI middleware: reads the body up to `bytes_max`, checks it, and hands it on in one piece."""

    def __init__(self, app: ASGIApp, bytes_max: int, secure: bool = False) -> None:
        self.app = app
        self.bytes_max = bytes_max
        self.secure = secure  # reached over https alone: browsers shall never try anything else

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        try:
            if not scope["path"].isprintable() or b"%00" in scope["query_string"]:
                raise ProblemError("bad_request", "The address holds control characters.")
            body = await self._read(request, receive)
        except ProblemError as error:
            # The rest of the body is not read, so the connection cannot be used again.
            error.headers["Connection"] = "close"
            await answer(request, error)(scope, receive, _hardened(send, self.secure))
            return
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, _hardened(send, self.secure))

    async def _read(self, request: Request, receive: Receive) -> bytes:
        declared = request.headers.get("content-length", "")
        if declared and (not declared.isdecimal() or int(declared) > self.bytes_max):
            raise self._too_large(declared)
        if request.headers.get("content-encoding", "identity").lower() != "identity":
            raise ProblemError("media_type", "Compressed bodies are not read: send the JSON as it is.")
        chunks, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ProblemError("bad_request", "The connection ended inside the body.")
            chunk: bytes = message.get("body", b"")
            size += len(chunk)
            if size > self.bytes_max:
                raise self._too_large(f"more than {self.bytes_max}")
            chunks.append(chunk)
            more = message.get("more_body", False)
        body = b"".join(chunks)
        if body and is_json(request.headers.get("content-type", "application/json")):
            strict_json(body)
        return body

    def _too_large(self, size: str) -> ProblemError:
        return ProblemError("too_large", f"The body has {size[:20]} bytes; the limit is {self.bytes_max}.")


def _hardened(send: Send, secure: bool) -> Send:
    """Adds to every answer what keeps a browser from making anything else of it."""

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower(): value for name, value in message.get("headers", ())}
            page = given.get(b"content-type", b"").startswith(b"text/html")
            added = [*HEADERS, (b"content-security-policy", PAGE_POLICY if page else DATA_POLICY)]
            if page and b"cache-control" not in given:
                added.append((b"cache-control", b"no-store"))
            if secure:
                added.append(SECURE_ONLY)
            # A page may bring a policy of its own.
            message["headers"] = [*message.get("headers", ()), *(each for each in added if each[0] not in given)]
        await send(message)

    return with_headers


def is_json(content_type: str) -> bool:
    """True for `application/json` and every `+json` type."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


def strict_json(raw: bytes) -> Any:
    """The value of JSON bytes that every parser reads alike. Raises ProblemError `unreadable` saying what is wrong."""
    try:
        orjson.loads(raw)  # refuses NaN, byte order marks, lone surrogates, overflowing numbers and deep nesting
        value = json.loads(raw, object_pairs_hook=_distinct, parse_int=_whole, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ProblemError("unreadable", f"The body is not strict JSON: {error}") from error
    _check(value)
    return value


def json_object(raw: bytes) -> dict[str, Any]:
    """As `strict_json`, for a body that must be an object."""
    value = strict_json(raw)
    if not isinstance(value, dict):
        raise ProblemError("unreadable", f"A JSON object is expected, a {type(value).__name__} came.")
    return value


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"key {doubled[:60]!r} stands there twice")
    return found


def _whole(text: str) -> int:
    if len(text) > 17 or abs(int(text)) >= INTEGER_MAX:
        raise ValueError(f"{text[:20]} is beyond 2**53, where numbers are rounded: send it as a string")
    return int(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


def _check(value: Any) -> None:
    """Refuses what both parsers let pass: U+0000, which no database text can hold, and nesting beyond reason."""
    open_values = [(value, 1)]
    while open_values:
        item, depth = open_values.pop()
        if depth > DEPTH_MAX:
            raise ProblemError("unreadable", f"The body is nested deeper than {DEPTH_MAX} levels.")
        if isinstance(item, dict):
            open_values += [(part, depth + 1) for part in (*item.keys(), *item.values())]
        elif isinstance(item, list):
            open_values += [(part, depth + 1) for part in item]
        elif isinstance(item, str) and "\x00" in item:
            raise ProblemError("unreadable", "A text holds the character U+0000, which cannot be stored.")
        elif isinstance(item, float) and not math.isfinite(item):
            raise ProblemError("unreadable", "A number is too large.")
