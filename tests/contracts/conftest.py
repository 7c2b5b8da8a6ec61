"""The implementations that the conformance suites run on: `site` for the broker, `store` for the store."""

import pytest

from tests.contracts.brokers import KafkaSite, PostgresSite, Site
from tests.contracts.stores import store

__all__ = ["site", "store"]


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.kafka), "postgres"])
def site(request: pytest.FixtureRequest) -> Site:
    """One place per implementation; PostgreSQL's is a fresh database."""
    if request.param == "kafka":
        return KafkaSite(request.getfixturevalue("kafka"))
    return PostgresSite(request.getfixturevalue("database"))
