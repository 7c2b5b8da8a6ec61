"""Answers to people: what is sealed in them is opened on its way out, or says when it was erased.

Rules of this file
- Who may see an answer was decided before it was made; everything in it that is sealed is part of what they may see.
- Files that people take away (CSV, JSON lines, packs) stay sealed: a copy that left could never be erased.
- A request that holds something sealed is refused: its text could come back in the answer, and be opened there.
- A value is written as the answer's kind needs it (JSON, HTML, a stream of events), so that none can break out of its
  place. One that cannot be opened stays as it is: that is ugly, and tells nobody anything.
- What is kept of answers (idempotent ones) is kept before it comes here.
"""

from __future__ import annotations

import contextlib
import html
import json
import re
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

import orjson
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestrator.api.problems import ProblemError, answer
from orchestrator.messages.personal import PREFIX, TOKEN, broken, key_ids
from orchestrator.vault.keys import Erased, Known
from orchestrator.vault.tokens import SealedError
from orchestrator.vault.vault import Vault

_PREFIX = PREFIX.encode()
_TOKEN = re.compile(TOKEN.pattern.encode())
_TAIL_MAX = 65_536  # of a stream: longer than any sealed value that belongs on a page

Write = Callable[[bytes, "re.Match[bytes]", str], bytes]


def in_html(_: bytes, __: re.Match[bytes], text: str) -> bytes:
    """As text or in an attribute."""
    return html.escape(text).encode()


def in_json(_: bytes, __: re.Match[bytes], text: str) -> bytes:
    """Inside a JSON string."""
    return json.dumps(text, ensure_ascii=False)[1:-1].encode()


def in_events(_: bytes, __: re.Match[bytes], text: str) -> bytes:
    """In a stream of events, whose lines hold HTML."""
    return html.escape(" ".join(text.split())).encode()


_KINDS: dict[bytes, Write] = {
    b"application/json": in_json,
    b"application/problem+json": in_json,
    b"text/event-stream": in_events,
    b"text/html": in_html,
}


async def shown(vault: Vault, body: bytes, write: Write) -> bytes:
    """A piece of an answer as people see it. Raises StoreError where keys cannot be asked for."""
    if _PREFIX not in body:
        return body
    keys = await vault.keys.by_id(key_ids(body.decode(errors="replace")))

    def one(match: re.Match[bytes]) -> bytes:
        text = opened(match[0].decode(), keys.get(match[1].decode()))
        return match[0] if text is None else write(body, match, text)

    return _TOKEN.sub(one, body)


def opened(token: str, key: Known | None) -> str | None:
    """What stands for a sealed value; None where it cannot be opened."""
    if isinstance(key, Erased):
        return key.text()
    try:
        return broken(key.open(token)) if key is not None else None
    except SealedError:
        return None


class Showing:
    """ASGI middleware: opens what is sealed in answers."""

    def __init__(self, app: ASGIApp, vault: Vault) -> None:
        self.app = app
        self._vault = vault

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        first = await receive()  # the whole body: whoever stands before us has read and bounded it
        if looks_sealed(scope, first.get("body", b"")):
            refusal = ProblemError("bad_request", "The request holds something that looks like a sealed value.")
            await answer(Request(scope), refusal)(scope, receive, send)
            return
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return first

        await self.app(scope, replay, _Answer(self._vault, send))


def looks_sealed(scope: Scope, body: bytes) -> bool:
    """Does a request hold a sealed value, in whatever writing? What somebody typed could be opened in an answer."""
    texts = [scope["path"].encode(), unquote_to_bytes(scope["query_string"].replace(b"+", b" ")), body]
    texts += [value for _, value in scope["headers"]]
    if b"%" in body:
        texts.append(unquote_to_bytes(body))
    if b"\\" in body:
        with contextlib.suppress(orjson.JSONDecodeError):
            texts.append(orjson.dumps(orjson.loads(body)))
    return any(_PREFIX in text for text in texts)


class _Answer:
    """One answer on its way out: a `Send`."""

    def __init__(self, vault: Vault, send: Send) -> None:
        self._vault = vault
        self._send = send
        self._start: Message | None = None
        self._write: Write | None = None
        self._held = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._write = _KINDS.get(_kind(message))
            if self._write is not None:
                self._start = message
                return
        if message["type"] != "http.response.body" or self._write is None:
            await self._send(message)
            return
        more = message.get("more_body", False)
        body = self._held + message.get("body", b"")
        self._held = b""
        if more:
            cut = _cut(body)
            body, self._held = body[:cut], body[cut:]
        body = await shown(self._vault, body, self._write)
        if self._start is not None:
            await self._send(_resized(self._start, None if more else len(body)))
            self._start = None
        await self._send({**message, "body": body})


def _cut(body: bytes) -> int:
    """Where a sealed value may have begun that this piece does not end."""
    start = body.rfind(_PREFIX)
    if start >= 0 and len(body) - start < _TAIL_MAX and _TOKEN.match(body, start) is None:
        return start
    for length in range(min(len(_PREFIX) - 1, len(body)), 0, -1):
        if body.endswith(_PREFIX[:length]):
            return len(body) - length
    return len(body)


def _kind(message: Message) -> bytes:
    for name, value in message.get("headers", ()):
        if name.lower() == b"content-type":
            return bytes(value).partition(b";")[0].strip().lower()
    return b""


def _resized(start: Message, size: int | None) -> Message:
    kept = [(name, value) for name, value in start.get("headers", ()) if name.lower() != b"content-length"]
    had = len(kept) != len(start.get("headers", ()))
    if size is not None and had:
        kept.append((b"content-length", str(size).encode()))
    return {**start, "headers": kept}
