"""Logging of a process: structured, on stderr; lines for people on a terminal, JSON where a machine reads.

Rules of this file
- The standard library's loggers (uvicorn, aiokafka, asyncio) go through the same pipe.
- A line that concerns a saga has `saga_id`, and `trace_id` where the trace is known: `about` says both of one line,
  `concerning` of all lines inside it, those of handlers and libraries too.
- No payload in a log. In production, text that others wrote into an exception (a handler, a driver, a library) may hold
  one: a line then says the exception's class and where it was raised, and tracebacks have frames without messages.
  The whole text is where it can be read with a right: at the stuck place, in the reply, with the dead letter.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

# Chatter of libraries: what matters in it comes as an exception to us.
QUIET = {
    "aiokafka": logging.WARNING,
    "uvicorn": logging.WARNING,
    "httpx2": logging.WARNING,
    "asyncio": logging.WARNING,
    "opentelemetry": logging.CRITICAL,  # who exports says itself when a collector is away, once
}
_OURS = ("orchestrator.", "projections.")  # whose exceptions say names and numbers, never values of fields
_FRAMES_MAX = 30
_TRACEPARENT_LENGTH, _TRACE_LENGTH = 55, 32


class Mode:
    """How this process logs; `configure` says it once."""

    production = False


def configure(level: str, *, as_json: bool | None = None, production: bool = False) -> None:
    """Sets logging up for this process. `as_json` None: JSON in production, and unless stderr is a terminal."""
    Mode.production = production
    number = logging.getLevelNamesMapping()[level.upper()]
    machine = production or not sys.stderr.isatty() if as_json is None else as_json
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=False,
    )
    told = [_frames] if production else [structlog.processors.format_exc_info] if machine else []
    last: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if machine
        # The usual picture of an exception shows local variables, that is payloads.
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *told, last],
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(level=number, handlers=[handler], force=True)
    for name, quiet in QUIET.items():
        logging.getLogger(name).setLevel(max(number, quiet))


def about(saga_id: str, trace: str = "") -> dict[str, str]:
    """What a line about a saga has. `trace`: a W3C traceparent or a trace id; one that is not known is left out."""
    found = {"saga_id": saga_id} if saga_id else {}
    trace_id = trace[3:35] if len(trace) >= _TRACEPARENT_LENGTH else trace if len(trace) == _TRACE_LENGTH else ""
    return found | {"trace_id": trace_id} if trace_id else found


@contextmanager
def concerning(saga_id: str, trace: str = "") -> Iterator[None]:
    """While inside, all lines of this task and of those that it starts say so."""
    with structlog.contextvars.bound_contextvars(**about(saga_id, trace)):
        yield


def said(error: BaseException) -> str:
    """An exception in a line: class and text; in production the text only of our own, of others where it was raised."""
    name = type(error).__name__
    if _may_be_told(error):
        return f"{name}: {error}"
    frames = traceback.extract_tb(error.__traceback__)
    return f"{name} at {_place(frames[-1])}" if frames else name


def _may_be_told(error: BaseException) -> bool:
    return not Mode.production or type(error).__module__.startswith(_OURS) or isinstance(error, OSError)


def _place(frame: traceback.FrameSummary) -> str:
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"


def _frames(_logger: Any, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """The traceback of a line as places, innermost last, with the causes; without what exceptions say."""
    given = event.pop("exc_info", None)
    error = given[1] if isinstance(given, tuple) else sys.exc_info()[1] if given is True else given
    found: list[str] = []
    while isinstance(error, BaseException) and len(found) < _FRAMES_MAX:
        found += [said(error), *(_place(frame) for frame in reversed(traceback.extract_tb(error.__traceback__)))]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if found:
        event["exception"] = found[:_FRAMES_MAX]
    return event
