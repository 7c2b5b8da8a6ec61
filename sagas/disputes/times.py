"""How long everybody has with a case."""

from __future__ import annotations

from pydantic import BaseModel

from events.disputes import DisputeRaised
from sagas.disputes.settings import OtherTimes, dispute_settings


class DisputeTimes(BaseModel):
    """The times in force when this case came, in hours: recorded, so that an auditor sees them."""

    acknowledge: float
    branch: float
    finding: float
    review: float


def dispute_times(request: DisputeRaised) -> DisputeTimes:
    """Those of all cases, unless the case's priority has its own."""
    settings = dispute_settings()
    own = settings.times.get(request.priority, OtherTimes())
    return DisputeTimes(
        acknowledge=own.acknowledge or settings.acknowledge_hours,
        branch=own.branch or settings.branch_hours,
        finding=own.finding or settings.finding_hours,
        review=own.review or settings.review_hours,
    )
