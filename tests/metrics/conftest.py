"""A whole product that is measured: all roles, sample traffic, and what goes wrong in a bank: stuck, dead, late."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.api.app import create_app
from orchestrator.api.server import ApiServer
from orchestrator.broker.contract import OutgoingMessage
from orchestrator.cli.serving import migrate_schema
from orchestrator.config import load_settings
from orchestrator.evidence.keys import own_ring
from orchestrator.metrics.wiring import Metrics
from orchestrator.runtime.app import Runtime
from orchestrator.runtime.catalog import Catalog
from tests.api.conftest import SETTLE_SECONDS_MAX, Product
from tests.api.payout import CONTEXT, desk, payout
from tests.api.test_tasks import decide
from tests.databases import Database
from tests.metrics.receiver import Receiver, receiving

CANARY = "canary-7b1e"  # in payloads, keys and names of people: it may be in no figure and no line of a log
HEADER = "for-the-collector"
SURVEY_MS = 500

Sample = tuple[str, frozenset[tuple[str, str]]]


@dataclass
class Measured:
    """A running product, and what it says of itself."""

    product: Product
    database: Database
    sagas: dict[str, str] = field(default_factory=dict)  # what was made of which: paid, stuck, expired, ...
    url_of: Metrics | None = None  # of another process than the product's own

    @property
    def url(self) -> str:
        """Where its figures are, for whoever may come near."""
        return (self.url_of or self.product.runtime.metrics).url

    async def scrape(self) -> dict[Sample, float]:
        """The figures as Prometheus reads them: (sample, labels) to number."""
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.get(self.url)
        assert answer.status_code == 200
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    async def until(self, name: str, least: float, **labels: str) -> float:
        """The sum of the samples of this name with these labels, once it is `least`. Raises TimeoutError."""
        async with asyncio.timeout(SETTLE_SECONDS_MAX):
            found = 0.0
            while found < least:
                await self._surveyed()
                found = total(await self.scrape(), name, **labels)
                await asyncio.sleep(0 if found >= least else 0.05)
        return found

    async def _surveyed(self) -> None:
        """Asks the database now: by itself the survey rests the longer, the longer it took on a busy machine."""
        survey = (self.url_of or self.product.runtime.metrics).surveying
        if survey is not None:
            await survey.ask()

    async def present(self, name: str) -> dict[Sample, float]:
        """All figures, once there is a sample of this name. Raises TimeoutError."""
        async with asyncio.timeout(SETTLE_SECONDS_MAX):
            while True:
                await self._surveyed()
                found = await self.scrape()
                if any(sample == name for sample, _ in found):
                    return found
                await asyncio.sleep(0.05)

    async def traffic(self) -> None:
        """One of everything: a payout that is paid, one refused, one expired, one stuck, one that waits overdue, and a
        message that nobody can read."""
        product = self.product
        paid = self.sagas["paid"] = await product.start(requester=CANARY)
        await decide(product, await product.task_of(paid), actor="maria")
        self.sagas["refused"] = await product.start(amount="2000000")
        self.sagas["expired"] = await product.start("brief")
        stuck = self.sagas["stuck"] = await product.start("bug")
        place = (await product.until_stuck(stuck))["stuckPlaces"][0]
        act = {"place": place["place"], "version": place["version"], "reason": "try"}
        retried = await product.post(f"/v1/sagas/{stuck}/retry", act, roles="operator")
        assert retried.status_code == 200, retried.text
        overdue = self.sagas["overdue"] = await product.start()
        await product.task_of(overdue)
        await product.until(self.sagas["expired"], "compensated")
        await product.until(paid, "completed")
        admin = await asyncpg.connect(self.database.admin_url)
        await admin.execute("UPDATE tasks SET due = due - 7200000000 WHERE saga_id = $1", overdue)  # the timer sleeps
        await admin.close()
        producer = product.runtime.broker.producer("stranger")
        await producer.start()
        await producer.send([OutgoingMessage(f"{CONTEXT}.events", CANARY.encode(), CANARY.encode())])
        await producer.stop()


def total(scraped: dict[Sample, float], name: str, **labels: str) -> float:
    """The sum of all samples of this name that have these labels."""
    wanted = set(labels.items())
    return sum(number for (sample, has), number in scraped.items() if sample == name and wanted <= has)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def collector() -> AsyncIterator[Receiver]:
    """A collector that keeps what it is sent."""
    async with receiving() as made:
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def measured(
    module_database: Database, collector: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Measured]:
    """The running product, after its traffic; it sends its metrics to the collector too."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", collector.url)
        environment.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector.url.replace("metrics", "traces"))
        environment.setenv("OTEL_EXPORTER_OTLP_METRICS_HEADERS", f"x-canary={HEADER}")
        environment.setenv("OTEL_METRIC_EXPORT_INTERVAL", "400")
        environment.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=bank")
        async with _running(module_database, tmp_path_factory.mktemp("evidence")) as made:
            yield made


@asynccontextmanager
async def _running(module_database: Database, directory: Path) -> AsyncIterator[Measured]:
    own_ring(directory / "log.key", "test/log")
    catalog = Catalog.of([payout], [desk])
    await migrate_schema(module_database.migrate_url, [desk.own_schema])
    settings = load_settings(
        database_url=module_database.url,
        sagas="tests.api",
        topic_partitions=2,
        stall_exit_ms=0,  # see tests/api
        metrics_listen="127.0.0.1:0",
        metrics_survey_ms=SURVEY_MS,
        notice_events=True,
        notice_poll_ms=100,
        evidence_key_file=str(directory / "log.key"),
        evidence_file=str(directory / "checkpoints.txt"),
        evidence_seal_ms=200,
    )
    runtime = Runtime(settings, catalog=catalog)
    async with runtime:
        app = create_app(runtime)
        async with ApiServer(app, "127.0.0.1", 0) as server:
            running = asyncio.create_task(runtime.run())
            async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as client:
                made = Measured(Product(runtime, app.state.engine, server.url, client), module_database)
                await made.traffic()
                yield made
            await server.stop()
            runtime.stop()
            await running
