"""The implementations that the conformance suites run on: `site` for the broker, `store` for the store."""

import pytest

from tests.contracts.brokers import KafkaSite, PostgresSite, SimulatedSite, Site
from tests.contracts.stores import postgres_store, store

__all__ = ["postgres_store", "site", "store"]


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.kafka), "postgres", "simulated"])
def site(request: pytest.FixtureRequest) -> Site:
    """One place per implementation; PostgreSQL's is a fresh database, the simulated one a log in memory."""
    if request.param == "simulated":
        return SimulatedSite()
    if request.param == "kafka":
        return KafkaSite(request.getfixturevalue("kafka"))
    return PostgresSite(request.getfixturevalue("database"))
