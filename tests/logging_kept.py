"""Logging belongs to a whole process, and tests share one: what one of them sets up ends with it.

Rules of this file
- A command that was run inside of a test may have pointed logging at a stream that is closed by now. Whoever logs next
  in the same process would be told so on stderr, with the lines of code that led there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from orchestrator import logs


@contextmanager
def logging_kept() -> Iterator[None]:
    """Afterwards logging is as it was: handlers, levels, what structlog does, and whether this is production."""
    loggers = [logging.getLogger(name) for name in ("", *logs.QUIET)]
    levels = [logger.level for logger in loggers]
    handlers, configured, known = loggers[0].handlers[:], structlog.is_configured(), structlog.get_config()
    production = logs.Mode.production
    try:
        yield
    finally:
        loggers[0].handlers[:] = handlers
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        logs.Mode.production = production
        if configured:
            structlog.configure(**known)
        else:
            structlog.reset_defaults()
