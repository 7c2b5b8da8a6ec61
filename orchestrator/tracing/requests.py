"""Spans of HTTP requests: of each act, in the trace of the saga that it moved.

Rules of this file
- An act on a saga hangs under the opening of what it is about (a vote under its task), with the caller's context as a
  link: the saga is one trace, whoever acts on it. What starts a saga, or moves none, is in the caller's trace.
- Where that is, is looked up when spans are sent, beside the requests, for many at once.
- Method, route and status; never a query or a body, and of a path only ids that this product made.
Source: OpenTelemetry's HTTP conventions, server spans.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import orjson
import structlog

from orchestrator import telemetry as names
from orchestrator.runtime.identity import begun_here, context_of, is_sampled, span_id_of, trace_of
from orchestrator.telemetry import SERVER
from orchestrator.tracing.acting import Moved
from orchestrator.tracing.fold import Fields
from orchestrator.tracing.makers import saga_spans
from orchestrator.tracing.sampling import Sampler
from orchestrator.tracing.span import Span, Value

WAITING_MAX = 10_000

log = structlog.get_logger("orchestrator.traces")

_OF_SAGA = re.compile(r"/v1/(?:sagas|tasks)/([0-9a-f-]{36})(?![^:/])")  # who was turned away is found by its saga too

Before = Callable[[Mapping[str, int]], Awaitable[Mapping[str, Sequence[Fields]]]]


@dataclass(frozen=True, slots=True)
class Served:
    """One request that was answered. `traceparent`: of its caller, or begun here. Instants: nanoseconds since 1970."""

    method: str
    route: str
    scheme: str
    status: int
    began_ns: int
    ended_ns: int
    traceparent: str
    moved: tuple[Moved, ...] = ()
    path: str = ""  # as it may be told


def written(served: Served) -> bytes:
    """A request as a line, for `read`."""
    return orjson.dumps(served)


def read(line: bytes) -> Served | None:
    """The request of a line; None where it is none of ours."""
    try:
        found = orjson.loads(line)
        return Served(**(found | {"moved": tuple(Moved(**moved) for moved in found["moved"])}))
    except (ValueError, TypeError, KeyError):
        return None


class Requests:
    """Requests whose spans are to be made. `before`: reads the records of sagas below a version."""

    def __init__(self, before: Before, sampler: Sampler) -> None:
        self._before, self._sampler = before, sampler
        self._waiting: deque[Served] = deque(maxlen=WAITING_MAX)

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def add(self, served: Served) -> None:
        """Notes an answered request."""
        self._waiting.append(served)

    async def spans(self) -> list[Span]:
        """The spans of what was noted since. Raises StoreError; then it is noted still."""
        waiting = list(self._waiting)
        versions: dict[str, int] = {}
        for served in waiting:
            for moved in served.moved[:1]:
                if moved.version > 1:
                    versions[moved.saga_id] = max(moved.version, versions.get(moved.saga_id, 0))
        streams = await self._before(versions) if versions else {}
        for _ in waiting:
            self._waiting.popleft()
        found = [self._made(served, streams) for served in waiting]
        return [span for span in found if span is not None]

    def _made(self, served: Served, streams: Mapping[str, Sequence[Fields]]) -> Span | None:
        """The span of a request. One about a record that cannot be read costs that span alone."""
        try:
            return self._span(served, streams)
        except Exception as error:
            log.error("a request makes no span", route=served.route, reason=repr(error)[:300])
            return None

    def _span(self, served: Served, streams: Mapping[str, Sequence[Fields]]) -> Span | None:
        given = context_of(served.traceparent)
        assert given is not None
        own = served.traceparent == begun_here(given[0], self._sampler)
        moved = served.moved[0] if served.moved else None
        if moved is not None and (stream := streams.get(moved.saga_id)):
            trace = trace_of(stream[0].traceparent, moved.saga_id, self._sampler)
            if not is_sampled(trace):
                return None
            fold = saga_spans(moved.saga_id, lambda _: "")
            for fields in stream[: moved.version - 1]:
                fold.take(fields)
            id_ = span_id_of(f"{moved.saga_id}/{moved.version}#http")
            links = () if own else (given,)
            return _span(served, trace[:32], id_, fold.place(moved.activity), fold.common, links)
        if not is_sampled(served.traceparent) or (own and moved is not None):
            return None  # a start without a caller's context: the saga's root is where its trace begins
        # Begun here, it is the root itself, under the id that its answer named.
        id_ = given[1] if own else span_id_of(f"{given[1]}/{served.began_ns}")
        about = moved.saga_id if moved is not None else asked[1] if (asked := _OF_SAGA.match(served.path)) else ""
        more = {names.SAGA_ID: about} if about else {}
        return _span(served, given[0], id_, "" if own else given[1], more, ())


def _span(
    served: Served,
    trace_id: str,
    id_: str,
    parent: str,
    more: Mapping[str, Value],
    links: Sequence[tuple[str, str]],
) -> Span:
    attributes: dict[str, Value] = {
        names.HTTP_METHOD: served.method,
        names.HTTP_ROUTE: served.route,
        names.HTTP_STATUS: served.status,
        names.URL_SCHEME: served.scheme,
        names.URL_PATH: served.path,
        **more,
    }
    name = f"{served.method} {served.route}".rstrip()
    error = str(served.status) if served.status >= 500 else ""
    return Span(trace_id, id_, parent, name, SERVER, served.began_ns, served.ended_ns, attributes, error, links)
