"""What people see in a real Jaeger: of a payout that begins upstream, whose coordinator is killed while it waits, and
that a person approves over HTTP. One product for the whole file: its processes are real, and so is the collector.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import sys
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from orchestrator.api.app import create_app
from orchestrator.api.server import ApiServer
from orchestrator.broker.contract import OutgoingMessage
from orchestrator.cli.serving import migrate_schema
from orchestrator.config import load_settings
from orchestrator.messages.envelope import Envelope, schema_urn
from orchestrator.runtime import parts
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.identity import saga_id_of
from orchestrator.tracing.again import Again, Emitted
from orchestrator.tracing.sampling import Sampler
from orchestrator.tracing.sender import Sender
from orchestrator.tracing.settings import telemetry_settings
from orchestrator.tracing.span import Span, encoded
from orchestrator.tracing.store import TraceStore
from tests.api.conftest import Product
from tests.api.payout import PayoutRequested, desk, payout
from tests.databases import Database
from tests.docs.walked_path import walk
from tests.jaeger import Jaeger, tree

ROOT = Path(__file__).parents[2]
OPEN = "saga.task.opened approve"
OVER = "saga payout"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240), pytest.mark.asyncio(loop_scope="module")]


@dataclass
class Bank:
    """The product, a process that can be killed, and the Jaeger that they send to."""

    product: Product
    jaeger: Jaeger
    database: Database
    environment: dict[str, str]
    worker: asyncio.subprocess.Process | None = None

    async def up(self, **more: str) -> None:
        """Starts the worker."""
        self.worker = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.tracing.payout_process", self.database.url,
            cwd=ROOT, env=self.environment | more, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self.worker.stdout is not None
        assert await self.worker.stdout.readline() == b"up\n"

    async def kill(self) -> None:
        """Kills the worker, as a machine that loses its power."""
        if self.worker is not None and self.worker.returncode is None:
            self.worker.send_signal(signal.SIGKILL)
            await self.worker.wait()

    async def noted(self, name: str, saga_id: str) -> None:
        """Until a process has noted such a span on disk."""
        async with asyncio.timeout(60):
            while not any(  # noqa: ASYNC110 - another process is waited for
                name.encode() in line and saga_id.encode() in line
                for path in Path(self.environment["ORCHESTRATOR_DATA_DIR"]).glob("spans/*/*.spans")
                for line in path.read_bytes().splitlines()
            ):
                await asyncio.sleep(0.02)

    def found(self, service: str, tags: dict[str, str]) -> set[str]:
        """The traces that Jaeger's search finds by these tags."""
        query = urllib.parse.urlencode({"service": service, "tags": json.dumps(tags), "limit": 100, "lookback": "1h"})
        with urllib.request.urlopen(f"{self.jaeger.query_url}/api/traces?{query}", timeout=20) as answer:
            return {trace["traceID"] for trace in json.load(answer)["data"]}

    async def seen(self, trace_id: str, *wanted: str) -> list[dict[str, Any]]:
        """The trace in Jaeger once these spans are there."""
        return await asyncio.to_thread(self.jaeger.until, trace_id, *wanted)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bank(
    module_database: Database, jaeger: Jaeger, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bank]:
    """HTTP here, everything else in a process of its own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{jaeger.otlp_url}/v1/traces")
    catalog = Catalog.of([payout], [desk])
    await migrate_schema(module_database.migrate_url, [desk.own_schema])
    data_dir = tmp_path_factory.mktemp("data")
    patch.setenv("ORCHESTRATOR_DATA_DIR", str(data_dir))
    settings = load_settings(
        database_url=module_database.url, sagas="tests.api", roles="api", topic_partitions=2, stall_exit_ms=0
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    try:
        async with Runtime(settings, catalog=catalog) as runtime:
            app = create_app(runtime)
            async with (
                ApiServer(app, "127.0.0.1", 0) as server,
                working(runtime),
                httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client,
            ):
                product = Product(runtime, app.state.engine, server.url, client)
                made = Bank(product, jaeger, module_database, environment)
                await made.up(KEEPS_MEASURED_SPANS="1")
                try:
                    yield made
                finally:
                    await made.kill()
                    await server.stop()
    finally:
        patch.undo()


@asynccontextmanager
async def working(runtime: Runtime) -> AsyncIterator[None]:
    """The runtime's loops, stopped at the end."""
    running = asyncio.create_task(runtime.run())
    try:
        yield
    finally:
        runtime.stop()
        await running


async def upstream(bank: Bank, *keys: str) -> tuple[str, list[str]]:
    """Another service's request: its span, and a payout for each key, in its trace. The trace, and the sagas' ids."""
    trace_id, span_id = secrets.token_hex(16), secrets.token_hex(8)
    now = time.time_ns()
    shop = Span(trace_id, span_id, "", "POST /payouts", 2, now, now + 1_000, {})
    sender = Sender(telemetry_settings())
    assert (await sender.post(encoded([({"service.name": "shop"}, [shop])]))).fate == "taken"
    sender.close()
    sent = []
    for key in keys:
        request = PayoutRequested(payout_id=key, requester="ravi", amount="10")  # type: ignore[arg-type]
        envelope = Envelope(
            id=f"shop-{key}", source="/shop", type=request.wire_name,
            dataschema=schema_urn(request.wire_name, request.wire_version),
            traceparent=f"00-{trace_id}-{span_id}-01",
        )  # fmt: skip
        message = OutgoingMessage("apitest.events", key.encode(), request.canonical(), envelope.headers())
        sent += [message, message]  # the shop's relay died in between: it comes twice
    producer = bank.product.runtime.broker.producer("shop")
    assert set(await producer.send(sent)) == {None}
    return trace_id, [saga_id_of("main", "payout", key) for key in keys]


async def approve(bank: Bank, saga_id: str) -> None:
    """A manager says yes, with a trace of the browser's own."""
    task = await bank.product.task_of(saga_id)
    traceparent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"
    answer = await bank.product.client.post(
        f"/v1/tasks/{task['id']}/decide",
        json={"outcome": "approve", "subjectHash": task["subjectHash"]},
        headers={
            "X-Actor": "maria", "X-Actor-Roles": "manager", "Idempotency-Key": f'"{uuid.uuid4()}"',
            "traceparent": traceparent,
        },
    )  # fmt: skip
    assert answer.status_code == 200, answer.text


def whole(spans: list[dict[str, Any]], root: str = "POST /payouts") -> None:
    """One connected tree without a warning, in which nothing is doubled and nothing has no length.

    One warning is not ours: Jaeger takes whatever is shorter than its parent and lies outside of it for a wrong clock,
    and so the handling of any message that was sent by a longer span: our root below another service's.
    """
    ids = [span["spanID"] for span in spans]
    assert len(ids) == len(set(ids)), tree(spans)
    roots = [span["operationName"] for span in spans if not span["parent"]]
    assert roots == [root], tree(spans)
    assert {span["parent"] for span in spans} - {""} <= set(ids), tree(spans)
    shop = {span["spanID"] for span in spans if span["service"] == "shop"}
    warned = [span for span in spans if span["warnings"] and span["parent"] not in shop]
    assert [(span["operationName"], span["warnings"]) for span in warned] == []
    assert min(span["duration"] for span in spans) > 0


async def test_a_payout_is_one_tree_while_it_waits_and_when_it_is_over(bank: Bank) -> None:
    """From the shop's request through a process that is killed midway to the approval and the end. It had not sent what
    its participant measured, and whoever comes after it does."""
    trace_id, (saga_id,) = await upstream(bank, f"tree-{uuid.uuid4()}")
    await bank.noted("process apitest-desk.commands", saga_id)
    waiting = await bank.seen(trace_id, OPEN)
    whole(waiting)
    assert {OVER, "process apitest-desk.commands"}.isdisjoint(span["operationName"] for span in waiting)
    (opened,) = [span for span in waiting if span["operationName"] == OPEN]
    assert opened["tags"]["saga.due"].endswith("Z")
    await bank.kill()
    await bank.up()
    whole(await bank.seen(trace_id, "process apitest-desk.commands", "send apitest-desk.replies"))
    await approve(bank, saga_id)
    spans = await bank.seen(trace_id, OVER, "saga.step pay", "POST /v1/tasks/{task_id}/decide")
    spans = await until_stable(bank, trace_id, spans)
    whole(spans)
    names = {span["operationName"]: span for span in spans}
    task, request = names["saga.task approve"], names["POST /v1/tasks/{task_id}/decide"]
    assert task["parent"] == request["parent"] == opened["spanID"]
    assert abs(task["startTime"] - opened["startTime"]) <= 1
    assert task["duration"] >= names["saga.task.voted approve"]["startTime"] - opened["startTime"] - 1
    assert (request["tags"]["http.response.status_code"], request["tags"]["span.kind"]) == (200, "server")
    assert len(request["links"]) == 1, "the browser's own trace"
    process = names["process apitest-desk.commands"]
    assert (process["service"], process["tags"]["span.kind"]) == ("apitest-desk", "consumer")
    assert process["tags"]["messaging.consumer.group.name"] == "participants.apitest-desk"
    assert names["process apitest.events"]["tags"]["messaging.operation.type"] == "process"
    assert {"send apitest-desk.commands", "send apitest.events"} <= names.keys()
    assert names[OVER]["duration"] >= task["duration"]
    wanted: list[tuple[str, dict[str, str]]] = [
        ("saga-orchestrator", {"saga.id": saga_id}),
        ("saga-orchestrator", {"saga.name": "payout", "saga.outcome": "completed"}),
        ("apitest-desk", {"saga.step.name": "reserve", "saga.id": saga_id}),
    ]  # fmt: skip
    for service, tags in wanted:
        assert trace_id in await asyncio.to_thread(bank.found, service, tags), (service, tags)


async def until_stable(bank: Bank, trace_id: str, spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The trace when all processes have had time to send: both participants' answers are there."""
    for _ in range(100):
        if sum(span["operationName"] == "send apitest-desk.replies" for span in spans) >= 2:
            return spans
        await asyncio.sleep(0.2)
        spans = await asyncio.to_thread(bank.jaeger.trace, trace_id)
    raise AssertionError(tree(spans))


async def test_two_sagas_of_one_request_are_in_one_tree(bank: Bank) -> None:
    """And sending both again from the store shows nothing twice."""
    trace_id, sagas = await upstream(bank, f"left-{uuid.uuid4()}", f"right-{uuid.uuid4()}")
    spans: list[dict[str, Any]] = []
    for _ in range(100):
        spans = await bank.seen(trace_id, OPEN, "send apitest-desk.replies")
        if len([span for span in spans if span["operationName"] in (OPEN, "send apitest-desk.replies")]) == 4:
            break
        await asyncio.sleep(0.2)
    whole(spans)
    assert {span["tags"]["saga.id"] for span in spans if "saga.id" in span["tags"]} == set(sagas)
    store = bank.product.runtime.store
    again = Again(
        TraceStore(store),
        telemetry_settings(),
        lambda name: "apitest.events",
        parts.wire(bank.product.runtime.settings),
    )
    done = Emitted()
    for saga_id in sagas:
        await again.saga("main", saga_id, done)
    again.close()
    assert done.sagas == 2
    await asyncio.sleep(1)  # Jaeger takes in what it was sent within its batch's 200 ms
    after = await asyncio.to_thread(bank.jaeger.trace, trace_id)
    assert sorted(span["spanID"] for span in after) == sorted(span["spanID"] for span in spans)


async def test_the_guide_can_be_walked(bank: Bank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/guides/read-a-trace.md tells people to type is typed here, and shows what it says."""
    key = f"guide-{uuid.uuid4()}"
    trace_id, (saga_id,) = await upstream(bank, key)
    await bank.seen(trace_id, OPEN)
    await approve(bank, saga_id)
    await bank.seen(trace_id, OVER)
    monkeypatch.setenv("SAGA", key)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    known = {"ORCHESTRATOR_DATABASE_URL": bank.database.url, "ORCHESTRATOR_SAGAS": "tests.api.payout"}
    exports = "".join(f"export {name}='{value}'\n" for name, value in known.items())
    guide = tmp_path / "read-a-trace.md"
    guide.write_text(f"```sh\n{exports}```\n" + (ROOT / "docs" / "guides" / "read-a-trace.md").read_text())
    assert await asyncio.to_thread(walk, guide, tmp_path) == 3


async def test_an_unsampled_request_leaves_no_trace(bank: Bank) -> None:
    """Upstream's word counts; the saga runs all the same."""
    assert bank.product.runtime.telemetry.sampler == Sampler(1.0)
    trace_id = secrets.token_hex(16)
    body = {"payout_id": str(uuid.uuid4()), "requester": "ravi", "amount": "10", "mood": ""}
    answer = await bank.product.client.post(
        "/v1/sagas/payout", json=body,
        headers={"X-Actor": "ada", "Idempotency-Key": f'"{uuid.uuid4()}"',
                 "traceparent": f"00-{trace_id}-{secrets.token_hex(8)}-00"},
    )  # fmt: skip
    assert answer.status_code == 201, answer.text
    await bank.product.engine.settled(answer.json()["sagaId"], seconds_max=20, tenant="main")
    await asyncio.sleep(2)
    assert await asyncio.to_thread(bank.jaeger.trace, trace_id) == []
