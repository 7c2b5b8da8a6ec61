"""`GET /office/live`: the stream of hints of one open page (server-sent events).

Rules of this file
- The response is our own, because it must end in four ways: the server stops, the page goes, its time is over, or it
  does not read: what cannot be sent within SEND_SECONDS_MAX is not sent, and the connection is closed.
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import Response
from starlette.types import Receive, Scope, Send

from orchestrator.api.engine import Acting, may
from orchestrator.api.problems import ProblemError
from orchestrator.pages.live import TOPICS_MAX, Live
from orchestrator.pages.site import office_router

SEND_SECONDS_MAX = 10.0

_TOPIC = re.compile(r"tasks|sagas|saga:[A-Za-z0-9._:\-]{1,200}")

router = office_router()


class HintStream(Response):
    """Hints until one side has had enough."""

    media_type = "text/event-stream"

    def __init__(self, live: Live, tenant: str, person: str, topics: frozenset[str], stopping: asyncio.Event) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._live, self._tenant, self._person, self._topics = live, tenant, person, topics
        self._stopping = stopping
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends until the page goes; raises nothing for a page that went."""
        try:
            with self._live.stream(self._tenant, self._person, self._topics) as stream:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                gone = asyncio.Event()
                listening = asyncio.create_task(_listen(receive, gone))
                try:
                    async for message in self._live.hints(stream, self._stopping, gone):
                        async with asyncio.timeout(SEND_SECONDS_MAX):
                            await send({"type": "http.response.body", "body": message, "more_body": True})
                finally:
                    listening.cancel()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            return  # it does not read; the server closes the connection of an answer that was not finished


async def _listen(receive: Receive, gone: asyncio.Event) -> None:
    """Sets `gone` when the page has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone.set()


@router.get("/live", dependencies=[may("office.use")])
async def live(request: Request, actor: Acting, topics: Annotated[str, Query(max_length=2_000)] = "tasks") -> Response:
    """The stream. `topics`: tasks, sagas, saga:<id>, separated by commas."""
    wanted = frozenset(filter(None, topics.split(",")))
    if not wanted or len(wanted) > TOPICS_MAX or not all(map(_TOPIC.fullmatch, wanted)):
        raise ProblemError("bad_request", f"topics names 1 to {TOPICS_MAX} of: tasks, sagas, saga:<id>.")
    hub: Live = request.app.state.live
    if not hub.has_room(actor.tenant, actor.id):
        raise ProblemError(
            "too_many", "Too many open pages get live updates. This one works without.", headers={"Retry-After": "60"}
        )
    return HintStream(hub, actor.tenant, actor.id, wanted, request.app.state.stopping)
