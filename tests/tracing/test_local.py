"""Spans that a process measures itself: whatever goes wrong with them costs spans, and never the process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from orchestrator.runtime.supervisor import Pulse, Stopping
from orchestrator.tracing.acting import Moved
from orchestrator.tracing.fold import Fields
from orchestrator.tracing.local import LocalSpans
from orchestrator.tracing.requests import Requests, Served
from orchestrator.tracing.sender import Sender
from orchestrator.tracing.span import Span
from tests.tracing.collector import ALL, Collector, collecting
from tests.tracing.trees import UPSTREAM

RESOURCE = {"service.name": "saga-orchestrator"}
STARTED = Fields(1, "saga.started", "", {"name": "order", "version": 1}, "system", "m-1", UPSTREAM, 1)
SAGA = "0f0e0d0c-0000-5000-8000-000000000001"
STRANGE = Fields(2, "step.requested", "pay", {"command": "no command"}, "system", "", UPSTREAM, 2)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector for one test."""
    with collecting() as made:
        yield made


def served(saga_id: str) -> Served:
    """A request that moved a saga."""
    return Served("POST", "/api/tasks", "http", 200, 1_000, 2_000, UPSTREAM, (Moved(saga_id, 3, "pay"),))


async def test_a_request_about_a_record_that_cannot_be_read_costs_its_own_span_alone() -> None:
    """A record of a later release, or a damaged one, under a process that serves HTTP: the others are made."""

    async def before(_: object) -> dict[str, list[Fields]]:
        return {"strange": [STARTED, STRANGE], "good": [STARTED]}

    requests = Requests(before, ALL)
    requests.add(served("strange"))
    requests.add(served("good"))
    assert [span.attributes["saga.id"] for span in await requests.spans()] == ["good"]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (f"/v1/tasks/{SAGA}:REDACTED/decide", SAGA),
        (f"/v1/sagas/{SAGA}/cancel", SAGA),
        ("/v1/sagas/order", ""),
        ("", ""),
    ],
)
async def test_who_was_turned_away_is_found_by_the_saga_that_was_asked_for(path: str, found: str) -> None:
    """The act moved nothing, so its span is in a trace of its own; the saga's id leads there."""

    async def before(_: object) -> dict[str, list[Fields]]:
        return {}

    requests = Requests(before, ALL)
    requests.add(Served("POST", "/v1/x", "http", 403, 1_000, 2_000, UPSTREAM, (), path))
    (span,) = await requests.spans()
    assert (span.attributes.get("saga.id", ""), span.error, span.trace_id) == (found, "", UPSTREAM[3:35])


async def test_no_answer_of_a_collector_ends_the_loop(collector: Collector) -> None:
    """One that talks nonsense is one that took the spans, or will later."""
    collector.answer = b'{"partialSuccess":{"rejectedSpans":[1],"errorMessage":{}}}'
    local, stopping = LocalSpans(Sender(collector.settings()), RESOURCE, spans_max=10), Stopping()
    local.add("", Span("1" * 32, "2" * 16, "", "GET /", 2, 1, 2, {}))
    running = asyncio.create_task(local.run(stopping, Pulse("spans", 60_000)))
    await asyncio.to_thread(collector.wait, 1)
    stopping.ask()
    await running
    assert local.sent_spans == 1


async def test_what_cannot_be_sent_at_all_does_not_end_the_loop(collector: Collector) -> None:
    """A header with a line break is refused by the client itself, again and again."""
    sender = Sender(collector.settings(headers={"authorization": "Bearer a\nb"}))
    local, stopping = LocalSpans(sender, RESOURCE, spans_max=10), Stopping()
    local.add("", Span("1" * 32, "2" * 16, "", "GET /", 2, 1, 2, {}))
    assert not await local.flush()
    stopping.ask()
    await local.run(stopping, Pulse("spans", 60_000))
    assert local.facts() == {
        "local_spans_waiting": 1,
        "local_spans_sent": 0,
        "local_spans_lost": 0,
        "local_spans_found": 0,
    }


async def test_an_answer_that_drips_for_ever_is_cut_off(collector: Collector) -> None:
    """Each byte comes within the socket's limit: without a limit for the whole the loop would be taken for dead."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n")
            while not reader.at_eof() and not writer.is_closing():
                writer.write(b"x-a: b\r\n" if len(heard) < 50 else b"")
                await writer.drain()
                heard.append(1)
                await asyncio.sleep(0.05)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    heard: list[int] = []
    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        sender = Sender(replace(collector.settings(), traces_url=url, timeout_ms=200))
        posted = await asyncio.wait_for(sender.post(b"{}"), 60)
        sender.close()
    assert posted.fate == "later"
    assert 1 < len(heard) < 50
