"""Spans of a participant: a command's handling, its statements and calls, and its answer.

How they hang together
    send inventory.commands            the coordinator's, from the record that asked; its context came with the command
      process inventory.commands       here; whoever's instrumentation runs inside a handler finds it as its parent
        INSERT bookings                statements made through `work.connection`
        POST                           calls outside made within `calling(...)`
        send inventory.replies         its context goes with the answer

Rules of this file
- Ids derive from the command's id, so the context that an answer carries is the same whenever it is given.
- Only sampled commands cost anything. What a handler did in a run that was rolled back is forgotten; a command that is
  answered from what was stored makes no span: it was handled before.
- A statement's name is its first word and its table, never its text; a call has method, address and status, no more.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from opentelemetry import context as otel
from opentelemetry import trace as otel_trace

from orchestrator import telemetry as names
from orchestrator.broker.contract import IncomingMessage
from orchestrator.messages.protocol import CommandHeader, commands_topic, replies_topic
from orchestrator.runtime.identity import context_of, is_sampled, span_id_of
from orchestrator.telemetry import CLIENT
from orchestrator.tracing.span import Span, Value
from orchestrator.tracing.words import low

SPANS_MAX = 100  # of one command's handling; more are not kept
AddSpan = Callable[[str, Span], None]
_TABLE = re.compile(
    r"^\s*(?:--[^\n]*\n\s*)*(\w+)"
    r"(?:\s+(?:INTO|FROM|TABLE|ONLY)\s+([\w.\"]+)|\s+([\w.\"]+)(?:\s+\w+)?\s+SET\b|.*?\bFROM\s+([\w.\"]+))?",
    re.IGNORECASE | re.DOTALL,
)
# What the driver asks by itself when it meets a type for the first time; nobody wrote it.
_OF_THE_DRIVER = re.compile(
    r"\btypeinfo_tree\b|\A\s*SELECT\s+(?:pg_catalog\.)?(?:current_setting|set_config)\(\s*'jit'"
)


@dataclass(slots=True)
class Handling:
    """One sampled command while it is handled here: the context of its span, and what was measured inside."""

    trace_id: str
    span_id: str
    flags: str
    inside: list[Span] = field(default_factory=list)
    began_ns: int = 0

    @property
    def traceparent(self) -> str:
        """What calls outside carry."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def note(
        self, run: list[Span], name: str, start_ns: int, end_ns: int, attributes: Mapping[str, Value], error: str = ""
    ) -> None:
        """Keeps a child of kind CLIENT. `run`: the list of the run that it belongs to."""
        if len(run) < SPANS_MAX:
            id_ = span_id_of(f"{self.span_id}/{len(run)}")
            run.append(Span(self.trace_id, id_, self.span_id, name, CLIENT, start_ns, end_ns, attributes, error))


_CURRENT: ContextVar[Handling | None] = ContextVar("orchestrator_handling", default=None)


def process_traceparent(header: CommandHeader) -> str:
    """The context of a command's handling: what a handler hands on."""
    context = context_of(header.traceparent)
    if context is None:
        return header.traceparent
    return f"00-{context[0]}-{span_id_of(f'{header.id}/process')}-{header.traceparent[53:55]}"


def reply_traceparent(header: CommandHeader, reply_id: str) -> str:
    """The context that an answer carries: its own `send`, in the trace of the command."""
    context = context_of(header.traceparent)
    return f"00-{context[0]}-{span_id_of(reply_id)}-{header.traceparent[53:55]}" if context is not None else ""


def begin(header: CommandHeader) -> Handling | None:
    """The handling of a command, where it is sampled."""
    if not is_sampled(header.traceparent):
        return None
    context = context_of(header.traceparent)
    if context is None:
        return None
    return Handling(context[0], span_id_of(f"{header.id}/process"), header.traceparent[53:55])


@contextmanager
def handling(found: Handling | None, connection: Any = None) -> Iterator[None]:
    """Around the author's code: its statements and calls are measured, and its own instrumentation finds its parent."""
    if found is None:
        yield
        return
    run: list[Span] = []  # the driver tells of a statement a moment later: of an earlier run, it must not come in here
    found.inside = run
    if not found.began_ns:
        found.began_ns = time.time_ns()
    current = otel_trace.NonRecordingSpan(
        otel_trace.SpanContext(
            int(found.trace_id, 16), int(found.span_id, 16), is_remote=False, trace_flags=otel_trace.TraceFlags(1)
        )
    )
    token = otel.attach(otel_trace.set_span_in_context(current))
    mine = _CURRENT.set(found)

    def logged(query: Any) -> None:
        now = time.time_ns()
        if _OF_THE_DRIVER.search(query.query):
            return
        error = type(query.exception).__name__ if query.exception is not None else ""
        name, attributes = statement(query.query)
        attributes = {**attributes, **connected(query)}
        status = getattr(query.exception, "sqlstate", None)
        if status:
            attributes, error = {**attributes, names.DB_STATUS: status}, status
        found.note(run, name, now - int(query.elapsed * 1e9), now, attributes, error)

    try:
        if connection is not None:
            connection.add_query_logger(logged)
        yield
    finally:
        if connection is not None and not connection.is_closed():
            connection.remove_query_logger(logged)
        _CURRENT.reset(mine)
        otel.detach(token)


class Calling:
    """One call outside. `headers`: to be sent with it. Set `status` when the answer is there."""

    def __init__(self, traceparent: str) -> None:
        self.headers: dict[str, str] = {"traceparent": traceparent} if traceparent else {}
        self.status = 0


@contextmanager
def calling(method: str, url: str) -> Iterator[Calling]:
    """Around one HTTP call of a handler: a span of its own, and the header that hands the trace on.

        with calling("POST", url) as call:
            response = await client.post(url, headers=call.headers, timeout=work.time_left())
            call.status = response.status_code

    An exception marks it as failed, and so does a status from 400 on. Path and query never become part of it: they may
    name a customer. Outside a handler, or where the trace is not sampled, it does nothing.
    """
    found = _CURRENT.get()
    if found is None:
        yield Calling("")
        return
    attributes, name = _called(method, url)
    id_ = span_id_of(f"{found.span_id}/{len(found.inside)}")
    call = Calling(f"00-{found.trace_id}-{id_}-{found.flags}")
    start, error = time.time_ns(), ""
    clock = time.perf_counter_ns()
    place = len(found.inside)
    found.note(found.inside, name, start, start, attributes)
    try:
        yield call
    except BaseException as failure:
        error = type(failure).__name__
        raise
    finally:
        if place < len(found.inside):
            span = found.inside[place]
            span.end_ns = start + time.perf_counter_ns() - clock
            if call.status:
                attributes[names.HTTP_STATUS] = call.status
            span.error = error or (str(call.status) if call.status >= 400 else "")


def _called(method: str, url: str) -> tuple[dict[str, Value], str]:
    """The attributes of a call, and its span's name. Of the address only where it goes to is told."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    rest = names.REDACTED if parts.path.strip("/") or parts.query else ""
    known = method.upper() if method.upper() in names.HTTP_METHODS else names.OTHER
    attributes: dict[str, Value] = {
        names.HTTP_METHOD: known,
        names.SERVER_ADDRESS: host,
        names.SERVER_PORT: port,
        names.URL_FULL: f"{parts.scheme}://{host}{f':{parts.port}' if parts.port else ''}/{rest}",
    }
    if known != method:
        attributes[names.HTTP_METHOD_ORIGINAL] = method
    return attributes, "HTTP" if known == names.OTHER else known


def connected(query: Any) -> dict[str, Value]:
    """Which database a statement went to, as the connection was made."""
    found: dict[str, Value] = {names.DB_NAMESPACE: str(query.conn_params.database)}
    if isinstance(query.conn_addr, tuple):
        found[names.SERVER_ADDRESS], found[names.SERVER_PORT] = str(query.conn_addr[0]), int(query.conn_addr[1])
    else:
        found[names.SERVER_ADDRESS] = str(query.conn_addr)
    return found


@lru_cache(maxsize=1_024)
def statement(text: str) -> tuple[str, dict[str, Value]]:
    """Name and attributes of a statement's span, from its first word and its table."""
    match = _TABLE.match(text)
    operation = (match[1] if match else "query").upper()
    table = next((group for group in match.groups()[1:] if group), "").strip('"') if match else ""
    summary = f"{operation} {table}".rstrip()
    return summary, {names.DB_SYSTEM: names.POSTGRESQL, names.DB_SUMMARY: summary}


def spans_of(
    participant: str,
    header: CommandHeader,
    message: IncomingMessage,
    found: Handling,
    outcome: str,
    reply_id: str,
    began_ns: int,
    ended_ns: int,
    system: str = names.KAFKA,
) -> list[Span]:
    """The spans of one handled command: process, what was measured inside, and the answer's send."""
    error = "" if outcome in ("ok", "not_done") else outcome
    about: dict[str, Value] = {
        names.SAGA_ID: header.saga_id,
        names.SAGA_STEP_NAME: low(header.activity),
        names.SAGA_STEP_ATTEMPT: header.attempt,
        names.SAGA_PURPOSE: header.purpose,
        names.MESSAGING_SYSTEM: system,
        names.MESSAGING_CONVERSATION_ID: header.saga_id,
    }
    topic = commands_topic(participant)
    start = min([found.began_ns or began_ns, *(span.start_ns for span in found.inside)])
    process = Span(
        found.trace_id,
        found.span_id,
        header.traceparent[36:52],
        names.operation_name(names.PROCESS, topic),
        names.PROCESS[2],
        start,
        ended_ns,
        {
            **about,
            names.MESSAGING_OPERATION_NAME: names.PROCESS[0],
            names.MESSAGING_OPERATION_TYPE: names.PROCESS[1],
            names.MESSAGING_DESTINATION: topic,
            names.MESSAGING_GROUP: f"participants.{participant}",
            names.MESSAGING_PARTITION: str(message.partition),
            names.MESSAGING_OFFSET: message.offset,
            names.MESSAGING_MESSAGE_ID: header.id,
            names.CLOUDEVENTS_TYPE: header.type,
        },
        error,
    )
    return [process, *found.inside, _answer_span(participant, found, about, reply_id, ended_ns)]


def _answer_span(participant: str, found: Handling, about: dict[str, Value], reply_id: str, ended_ns: int) -> Span:
    topic = replies_topic(participant)
    return Span(
        found.trace_id,
        span_id_of(reply_id),
        found.span_id,
        names.operation_name(names.SEND, topic),
        names.SEND[2],
        ended_ns - 1_000,
        ended_ns,
        {
            **about,
            names.MESSAGING_OPERATION_NAME: names.SEND[0],
            names.MESSAGING_OPERATION_TYPE: names.SEND[1],
            names.MESSAGING_DESTINATION: topic,
            names.MESSAGING_MESSAGE_ID: reply_id,
        },
    )
