"""Bodies: bounded before they are buffered, strict before anybody reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.types import Message

from orchestrator.api.body import StrictBody, json_object, strict_json
from orchestrator.api.problems import ProblemError

LIMIT = 100


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'{"amount": NaN}', "not strict JSON"),
        (b'{"amount": 1e400}', "not strict JSON"),
        (b'{"a": 1, "b": {"a": 1, "a": 2}}', "key 'a' stands there twice"),
        (b'{"name": "\\ud800"}', "surrogate"),
        (b'{"name": "a\\u0000b"}', "U+0000"),
        (b'{"a\\u0000b": 1}', "U+0000"),
        (b'{"amount": 9007199254740992}', "beyond 2**53"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\xff\xfe{}", "not strict JSON"),
        (b"[" * 65 + b"]" * 65, "deeper than 64"),
        (b"[" * 100_000 + b"]" * 100_000, "not strict JSON"),
        (b"{'a': 1}", "not strict JSON"),
        (b"", "not strict JSON"),
    ],
)
def test_json_that_parsers_read_differently_is_refused(raw: bytes, says: str) -> None:
    """Whatever one service accepts and another reads otherwise is a way around a check."""
    with pytest.raises(ProblemError) as caught:
        strict_json(raw)
    assert caught.value.code == "unreadable"
    assert says in caught.value.detail


def test_ordinary_json_passes_unchanged() -> None:
    """Strictness costs nothing that is needed: unicode, escaped backslashes, fractions, the largest safe integer."""
    assert strict_json(rb'{"a": ["\\u0000", "\u00e9", 1.5, 9007199254740991, -1, true, null]}') == {
        "a": ["\\u0000", "é", 1.5, 9007199254740991, -1, True, None]
    }


def test_a_body_that_is_no_object_is_named() -> None:
    """Start messages are objects; a list must not reach a contract."""
    with pytest.raises(ProblemError, match="A JSON object is expected, a list came"):
        json_object(b"[]")


class Sent:
    """A request's chunks, counted as they are read, and the answer."""

    def __init__(self, chunks: list[bytes], headers: dict[str, str] | None = None) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self.read = 0
        self.messages: list[Message] = []
        self.scope: dict[str, Any] = {
            "type": "http", "method": "POST", "path": "/echo", "query_string": b"", "root_path": "", "scheme": "http",
            "http_version": "1.1", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
            "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
        }  # fmt: skip

    async def receive(self) -> Message:
        self.read += 1
        chunk = next(self._chunks, None)
        if chunk is None:
            return {"type": "http.request", "body": b"", "more_body": False}
        return {"type": "http.request", "body": chunk, "more_body": True}

    async def send(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])


@pytest.fixture
def app() -> StrictBody:
    """An application that gives back the length of what it got."""
    inner = FastAPI()

    @inner.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    return StrictBody(inner, LIMIT)


async def test_a_declared_size_over_the_limit_is_refused_before_a_byte_is_read(app: StrictBody) -> None:
    """413 must not cost the memory that it protects."""
    sent = Sent([b"x" * 10], {"content-length": str(LIMIT + 1)})
    await app(sent.scope, sent.receive, sent.send)
    assert (sent.status, sent.read) == (413, 0)


async def test_an_undeclared_body_is_refused_as_soon_as_it_grows_over_the_limit(app: StrictBody) -> None:
    """A chunked sender that lies about nothing still gets no more than the limit."""
    sent = Sent([b"x" * 60] * 1000)
    await app(sent.scope, sent.receive, sent.send)
    assert (sent.status, sent.read) == (413, 2)
    assert (b"connection", b"close") in sent.messages[0]["headers"]


async def test_a_body_of_exactly_the_limit_passes(app: StrictBody) -> None:
    """The limit is inclusive."""
    sent = Sent([b'"' + b"x" * 98, b'"'])
    await app(sent.scope, sent.receive, sent.send)
    assert sent.status == 200
    assert sent.messages[1]["body"] == b"100"


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({"content-encoding": "gzip"}, b"{}", 415),
        ({"content-length": "-1"}, b"{}", 413),
        ({"content-type": "application/cloudevents+json"}, b'{"a":1,"a":1}', 400),
        ({"content-type": "application/json; charset=utf-8"}, b'{"a":1,"a":1}', 400),
        ({"content-type": "text/plain"}, b'{"a":1,"a":1}', 200),
    ],
)
async def test_the_door_looks_at_encoding_and_media_type(
    app: StrictBody, headers: dict[str, str], body: bytes, status: int
) -> None:
    """Compressed bombs never unpack; every JSON type is checked."""
    sent = Sent([body], headers)
    await app(sent.scope, sent.receive, sent.send)
    assert sent.status == status


@pytest.mark.parametrize(("body", "status"), [(b"{}", 200), (b"{", 400)])
async def test_no_answer_can_be_taken_for_something_else(app: StrictBody, body: bytes, status: int) -> None:
    """Browsers guess no types, load nothing and frame nothing, also of errors."""
    sent = Sent([body])
    await app(sent.scope, sent.receive, sent.send)
    headers = dict(sent.messages[0]["headers"])
    assert sent.status == status
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert b"default-src 'none'" in headers[b"content-security-policy"]
