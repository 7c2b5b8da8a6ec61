"""The measured product under a real Prometheus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.deploy.prometheus_server import Prometheus, binary, running_prometheus
from tests.metrics.conftest import Measured, collector, measured

__all__ = ["collector", "measured"]

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


@dataclass(frozen=True)
class Watched:
    """A product, and the Prometheus that reads it."""

    measured: Measured
    prometheus: Prometheus


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def prometheus_is_there() -> None:
    """Asked before a product is started for nothing."""
    binary("prometheus")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(
    prometheus_is_there: None, measured: Measured, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Watched]:
    """After some scrapes, with a payout that expired while Prometheus was looking."""
    directory = tmp_path_factory.mktemp("prometheus")
    targets = {"saga-orchestrator": [urlsplit(measured.url).netloc]}
    async with running_prometheus(directory, targets, DEPLOY / "prometheus" / "alerts.yml") as prometheus:
        await prometheus.until("saga_stuck > 0")
        late = await measured.product.start("brief")
        await measured.product.until(late, "compensated")
        await prometheus.until('increase(saga_tasks_closed_total{saga_outcome="expired"}[1h]) > 0')
        yield Watched(measured, prometheus)
