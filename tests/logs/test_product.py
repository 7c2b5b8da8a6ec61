"""The lines of a running product when everything goes wrong in it: they name saga and trace, and hold no data."""

from __future__ import annotations

import asyncio
import logging
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from pydantic import BaseModel

from orchestrator import Command, Event, Key, Reply, Retry, Saga, compute, logs, step
from orchestrator.api.app import create_app
from orchestrator.api.server import ApiServer
from orchestrator.broker.contract import OutgoingMessage
from orchestrator.cli.serving import migrate_schema
from orchestrator.config import load_settings
from orchestrator.participants import Participant, Work
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from tests.databases import Database
from tests.logging_kept import logging_kept
from tests.logs.test_lines import Stream

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANARY = "canary-9d0c"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SECONDS_MAX = 20
CONTEXT = "logtest"


class Asked(Event, context=CONTEXT):
    """Starts the saga."""

    asked_id: Key[str]
    secret: str
    mood: str


class Looked(Reply, context=CONTEXT):
    """An answer."""

    secret: str


class Judged(BaseModel):
    """What nobody ever gets."""

    secret: str


class Look(Command[Looked], to="logtest-desk", context=CONTEXT):
    """Asks the desk."""

    secret: str
    mood: str


desk = Participant("logtest-desk")
author = logging.getLogger("bank.desk")


@desk.handles(Look)
async def on_look(command: Look, work: Work) -> Looked:
    """Says what it does, and fails in the mood "raise"."""
    author.info("looking")
    if command.mood == "raise":
        raise ValueError(f"no such account: {command.secret}")
    return Looked(secret=command.secret)


@step(within=timedelta(seconds=5), retry=Retry(attempts=1), undo=None)
def look(asked: Asked) -> Look:
    """Asks."""
    return Look(secret=asked.secret, mood=asked.mood)


def judged(asked: Asked, looked: Looked) -> Judged:
    """Raises, with somebody's data in the message."""
    raise ZeroDivisionError(f"cannot judge {asked.secret}")


asking = Saga("asking", version=1, starts_on=Asked, flow=[look, compute(judged)])


@dataclass
class Written:
    """What a product has written into its log, and the sagas that it was about."""

    stream: Stream
    failed: str = ""
    stuck: str = ""

    def about(self, saga_id: str) -> list[dict[str, Any]]:
        """The lines that name a saga."""
        return [line for line in self.stream.lines() if line.get("saga_id") == saga_id]


async def _until(client: httpx2.AsyncClient, saga_id: str, done: Callable[[dict[str, Any]], bool]) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        # The product tells nobody here.
        while not done((await client.get(f"/v1/sagas/{saga_id}", headers={"X-Actor": "ada"})).json()):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _start(client: httpx2.AsyncClient, mood: str) -> str:
    body = {"asked_id": str(uuid.uuid4()), "secret": CANARY, "mood": mood}
    headers = {
        "X-Actor": "ada",
        "Idempotency-Key": f'"{uuid.uuid4()}"',
        "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01",
    }
    answer = await client.post("/v1/sagas/asking", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    saga_id: str = answer.json()["sagaId"]
    return saga_id


async def _go_wrong(runtime: Runtime, client: httpx2.AsyncClient, written: Written) -> None:
    written.failed = await _start(client, "raise")
    written.stuck = await _start(client, "")
    await _until(client, written.failed, lambda detail: detail["saga"]["phase"] == "compensated")
    await _until(client, written.stuck, lambda detail: bool(detail["stuckPlaces"]))
    producer = runtime.broker.producer("stranger")
    await producer.start()
    traced = (("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode()),)
    await producer.send([OutgoingMessage(f"{CONTEXT}.events", CANARY.encode(), CANARY.encode(), traced)])
    await producer.send([OutgoingMessage("logtest-desk.commands", CANARY.encode(), CANARY.encode())])
    await producer.stop()
    async with asyncio.timeout(SECONDS_MAX):
        while sum("dead letter" in line["event"] for line in written.stream.lines()) < 3:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def written(module_database: Database) -> AsyncIterator[Written]:
    """The log of a product in which everything has gone wrong."""
    made = Written(Stream())
    with logging_kept():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stderr", made.stream)
            logs.configure("info", production=True)
        await migrate_schema(module_database.migrate_url, [desk.own_schema])
        settings = load_settings(database_url=module_database.url, sagas="tests.logs", topic_partitions=1)
        runtime = Runtime(settings, catalog=Catalog.of([asking], [desk]))
        async with runtime, ApiServer(create_app(runtime), "127.0.0.1", 0) as server:
            running = asyncio.create_task(runtime.run())
            async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
                await _go_wrong(runtime, client, made)
            await server.stop()
            runtime.stop()
            await running
        yield made


async def test_no_payload_is_in_any_line(written: Written) -> None:
    """Whoever raised, refused or could not read: what somebody sent is not in the log."""
    assert len(written.stream.lines()) > 8
    assert CANARY not in written.stream.getvalue()


async def test_a_failing_handler_names_its_saga_and_trace_and_where_it_raised(written: Written) -> None:
    """So do the lines that its author writes, which know nothing of sagas."""
    lines = written.about(written.failed)
    (failed,) = [line for line in lines if line["event"].startswith("handler of logtest.Look failed")]
    assert failed["trace_id"] == TRACE
    assert failed["exception"][0].startswith("ValueError at test_product.py:")
    authors = [line for line in written.stream.lines() if line["logger"] == "bank.desk"]
    assert {line["saga_id"] for line in authors} == {written.failed, written.stuck}
    assert {line["trace_id"] for line in authors} == {TRACE}


async def test_a_saga_that_gets_stuck_says_so(written: Written) -> None:
    """With the place and the kind of cause; the reason itself is where it can be read with a right."""
    (stuck,) = [line for line in written.about(written.stuck) if line["event"] == "a saga is stuck"]
    assert (stuck["trace_id"], stuck["saga"], stuck["cause"]) == (TRACE, "asking", "function")
    assert stuck["place"]


async def test_a_dead_letter_says_where_it_lies(written: Written) -> None:
    """Topic, partition, offset, reason, and the trace that it came with."""
    (letter,) = [line for line in written.stream.lines() if line["event"] == "a dead letter"]
    assert (letter["topic"], letter["offset"], letter["reason"]) == (f"{CONTEXT}.events", 0, "unreadable")
    assert letter["trace_id"] == TRACE
