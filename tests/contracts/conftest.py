"""The implementations that the broker's conformance suite runs on."""

import pytest

from tests.contracts.brokers import KafkaSite, PostgresSite, Site


@pytest.fixture(params=[pytest.param("kafka", marks=pytest.mark.kafka), "postgres"])
def site(request: pytest.FixtureRequest) -> Site:
    """One place per implementation; PostgreSQL's is a fresh database."""
    if request.param == "kafka":
        return KafkaSite(request.getfixturevalue("kafka"))
    return PostgresSite(request.getfixturevalue("database"))
