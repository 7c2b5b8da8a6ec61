"""How long everybody has with a case."""

from __future__ import annotations

from pydantic import BaseModel

from events.disputes import DisputeRaised, Priority
from sagas.disputes.settings import dispute_settings


class DisputeTimes(BaseModel):
    """The times in force when this case came, in hours: recorded, so that an auditor sees them."""

    acknowledge: float
    branch: float
    finding: float
    review: float


def dispute_times(request: DisputeRaised) -> DisputeTimes:
    """Urgent cases may have shorter times."""
    settings = dispute_settings()
    urgent = request.priority is Priority.URGENT
    return DisputeTimes(
        acknowledge=(urgent and settings.urgent_acknowledge_hours) or settings.acknowledge_hours,
        branch=(urgent and settings.urgent_branch_hours) or settings.branch_hours,
        finding=settings.finding_hours,
        review=settings.review_hours,
    )
