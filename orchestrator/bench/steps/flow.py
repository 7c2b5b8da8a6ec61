"""`orchestrator bench steps`: three steps one after the other, as the published benches of other engines have them.

Rules of this file
- One trip in ten goes where there is no car: its last step is refused, and hotel and flight are cancelled, in that
  order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.bench.flow import Flow
from orchestrator.bench.place import Place
from orchestrator.bench.steps.definition import NOWHERE


def trip(trip_id: str, number: int, compensating: bool) -> Mapping[str, Any]:
    """One trip."""
    return {"trip_id": trip_id, "destination": NOWHERE if compensating else f"place {number % 100}"}


async def unbalanced(here: Place, prefix: str) -> list[str]:
    """What the bookings contradict."""
    trips = (await here.fetch("trips_out_of_balance", prefix))[0]["trips"]
    return [f"{trips} trips whose bookings do not say what their sagas say"] if trips else []


STEPS = Flow(
    name="steps",
    noun="trips",
    modules="orchestrator.bench.steps",
    topic="bench.events",
    starts_on="bench.TripWanted",
    ends=frozenset({b"bench.TripBooked", b"bench.TripFailed"}),
    start=trip,
    unbalanced=unbalanced,
)
