"""What cannot be served just now, as an answer: the database is away, or too much waits already.

Rules of this file
- A line of the log for each request, and no traceback: in an outage every request comes here, and nobody has made a
  mistake. What trying again cannot help is a bug like any other, and is left to `problems`.
"""

from __future__ import annotations

import logging

from fastapi import FastAPI, Request
from fastapi.responses import Response

from orchestrator.api.problems import answer, from_exception
from orchestrator.runtime.submit import BusyError
from orchestrator.store.contract import StoreError

AWAY = (StoreError, BusyError)

logger = logging.getLogger(__name__)


def install(app: FastAPI) -> None:
    """Makes 503 of them, with when to come again."""

    async def on_away(request: Request, error: Exception) -> Response:
        if not getattr(error, "retriable", False):
            raise error
        logger.warning("%s %s cannot be served now: %s", request.method, request.url.path, error)
        return answer(request, from_exception(error))

    for kind in AWAY:
        app.add_exception_handler(kind, on_away)
