"""Who reads metrics through the API: with an identity provider, keys, and two tenants."""

from __future__ import annotations

import pytest

from orchestrator.identity.keeping import Kept
from tests.identity.bank import Bank
from tests.security.conftest import bank

__all__ = ["bank"]

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize(
    ("who", "status"),
    [
        ("anon", 401),
        ("op", 200),
        ("aud", 200),
        ("ap1", 403),
        ("adm", 403),
        ("nobody", 403),
        ("adm2", 403),
        ("key_t2", 403),
    ],
)
async def test_metrics_are_for_those_who_watch_over_the_house(bank: Bank, who: str, status: int) -> None:
    """Figures are of all tenants together, so another tenant's operators and services do not read them."""
    answer = await bank.ask("GET", "/metrics", who)
    assert answer.status == status
    assert ("saga_started_total" in answer.response.text) is (status == 200)
    (entry,) = answer.logged
    assert (entry["action"], entry["outcome"]) == ("metrics.read", "allowed" if status == 200 else "refused")


async def test_a_key_for_metrics_opens_nothing_else(bank: Bank) -> None:
    """What docs/guides/metrics.md gives to Prometheus."""
    bank.secrets["prometheus"] = await Kept(bank.runtime.store.pools).make_key(
        tenant="main", name="prometheus", capacities=["service"], actions=["metrics.read"], made_by="test", seconds=600
    )
    assert (await bank.ask("GET", "/metrics", "prometheus")).status == 200
    assert (await bank.ask("GET", "/v1/sagas", "prometheus")).status == 403
