"""A span, and many of them as OTLP over HTTP in JSON.

Rules of this file
- Bytes are a function of the spans alone: no clock, no chance, order as given. Sending again is the same bytes again.
- Attributes are texts, whole numbers and booleans. What repeats is encoded once and kept, in a bounded cache: nearly
  all attributes of a busy process are the same few thousand.
Source: opentelemetry-proto 1.x, JSON mapping (ids in hex, 64-bit integers as texts). docs/adr/0050 has why JSON.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import orjson

from orchestrator.telemetry import ERROR_TYPE, ERROR_WORDS, SCHEMA_URL, SCOPE, STATUS_ERROR

Value = str | int | bool
_CACHED = 16_384


@dataclass(slots=True)
class Span:
    """One span. Instants are nanoseconds since 1970. `error`: its error.type, "" where all went well. `links`: contexts
    (trace id, span id) that have to do with it and are not its parent."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    kind: int
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value]
    error: str = ""
    links: Sequence[tuple[str, str]] = ()


def encoded(batches: Iterable[tuple[Mapping[str, str], Sequence[Span]]]) -> bytes:
    """The body of one request: spans by the resource (its attributes) that they come from."""
    return joined((resource, [encoded_span(span) for span in spans]) for resource, spans in batches)


def joined(batches: Iterable[tuple[Mapping[str, str], Sequence[bytes]]]) -> bytes:
    """The body of one request, of spans that are encoded already."""
    return b'{"resourceSpans":[%b]}' % b",".join(
        b'{"resource":{"attributes":[%b]},"schemaUrl":"%b","scopeSpans":[{"scope":{"name":"%b"},"schemaUrl":"%b","spans":[%b]}]}'
        % (_attributes(resource), _SCHEMA, SCOPE.encode(), _SCHEMA, b",".join(spans))
        for resource, spans in batches
        if spans
    )


_SCHEMA = SCHEMA_URL.encode()


def encoded_span(span: Span) -> bytes:
    """One span as JSON."""
    attributes = _attributes(span.attributes)
    status = b""
    if span.error:
        attributes += (b"," if attributes else b"") + _attribute(ERROR_TYPE, span.error)
        words = ERROR_WORDS.get(span.error)
        said = b',"message":' + _text(words) if words else b""
        status = b',"status":{"code":%d%b}' % (STATUS_ERROR, said)
    parent = b',"parentSpanId":"%b"' % span.parent_id.encode() if span.parent_id else b""
    links = b""
    if span.links:
        links = b',"links":[%b]' % b",".join(
            b'{"traceId":"%b","spanId":"%b"}' % (trace_id.encode(), span_id.encode())
            for trace_id, span_id in span.links
        )
    return (
        b'{"traceId":"%b","spanId":"%b"%b,"flags":257,"name":%b,"kind":%d,"startTimeUnixNano":"%d",'
        b'"endTimeUnixNano":"%d","attributes":[%b]%b%b}'
    ) % (
        span.trace_id.encode(),
        span.span_id.encode(),
        parent,
        _text(span.name),
        span.kind,
        span.start_ns,
        span.end_ns,
        attributes,
        links,
        status,
    )


def _attributes(attributes: Mapping[str, Value]) -> bytes:
    return b",".join([_attribute(name, value) for name, value in attributes.items()])


@lru_cache(maxsize=_CACHED, typed=True)
def _attribute(name: str, value: Value) -> bytes:
    if value is True or value is False:
        return b'{"key":"%b","value":{"boolValue":%b}}' % (name.encode(), b"true" if value else b"false")
    if isinstance(value, int):
        return b'{"key":"%b","value":{"intValue":"%d"}}' % (name.encode(), value)
    return b'{"key":"%b","value":{"stringValue":%b}}' % (name.encode(), _text(value))


@lru_cache(maxsize=_CACHED)
def _text(value: str) -> bytes:
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:  # a lone surrogate, which JSON cannot hold
        return orjson.dumps(value.encode("utf-8", "backslashreplace").decode())
