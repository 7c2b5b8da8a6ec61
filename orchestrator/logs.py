"""Logging of a process: structured, on stderr; lines for people on a terminal, JSON where a machine reads.

The standard library's loggers (uvicorn, aiokafka, asyncio) go through the same pipe.
"""

from __future__ import annotations

import logging
import sys

import structlog

# Chatter of libraries: what matters in it comes as an exception to us.
_QUIET = {
    "aiokafka": logging.WARNING,
    "uvicorn": logging.WARNING,
    "httpx2": logging.WARNING,
    "asyncio": logging.WARNING,
}


def configure(level: str, *, as_json: bool | None = None) -> None:
    """Sets logging up for this process. `as_json` None: JSON unless stderr is a terminal."""
    number = logging.getLevelNamesMapping()[level.upper()]
    machine = not sys.stderr.isatty() if as_json is None else as_json
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
    last: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if machine
        else [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last], foreign_pre_chain=shared
        )
    )
    logging.basicConfig(level=number, handlers=[handler], force=True)
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(max(number, quiet))
