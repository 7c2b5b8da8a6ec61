"""What becomes of a case: from what people decided and the compliance check said, to the words that are written down.

The last word counts: the senior reviewer's before the branch manager's before the relationship manager's.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from pydantic import BaseModel

from events.disputes import (
    ComplianceChecked,
    DisputeRaised,
    Finding,
    FindingForm,
    ReviewForm,
    RmAcknowledged,
    Ruling,
    RulingForm,
)
from orchestrator import Decision

_CENT = Decimal("0.01")


class Settlement(BaseModel):
    """How a case is closed. `refund`: what the customer gets back, 0 where nothing."""

    resolution: str
    refund: Decimal
    rationale: str
    decided_by: str


class Referral(BaseModel):
    """Why a case goes to the Ombudsman."""

    reason: str


def refund_of(amount: Decimal, answer: FindingForm | RulingForm | ReviewForm) -> Decimal:
    """What the customer gets back by this decision, to the cent; 0 where it is no partial refund."""
    if answer.outcome not in (Finding.PARTIAL_REFUND, Ruling.PARTIAL_REFUND):
        return Decimal(0)
    return (amount * answer.refund_percent / 100).quantize(_CENT, ROUND_HALF_UP)


def is_compliant(checked: ComplianceChecked) -> bool:
    return checked.passed


def needs_review(
    finding: Decision[FindingForm] | None, ruling: Decision[RulingForm] | None, checked: ComplianceChecked | None
) -> bool:
    """Nobody decided in time, the manager escalates, or the rationale has not passed (also: could not be checked)."""
    undecided = finding is None and ruling is None
    escalated = finding is not None and finding.answer.outcome is Finding.ESCALATE
    return undecided or escalated or checked is None or not checked.passed


def settlement(
    request: DisputeRaised,
    finding: Decision[FindingForm] | None,
    ruling: Decision[RulingForm] | None,
    review: Decision[ReviewForm] | None,
) -> Settlement:
    """The last word, as it is written down. Raises ValueError where there is none, which no path allows."""
    last = review or ruling or finding
    if last is None:
        raise ValueError("a case is settled by somebody's word")
    return Settlement(
        resolution=str(last.answer.outcome.value),
        refund=refund_of(request.dispute_amount, last.answer),
        rationale=last.answer.rationale,
        decided_by=last.by.id,
    )


def pays_refund(settled: Settlement) -> bool:
    return settled.refund > 0


def referral(
    acknowledged: RmAcknowledged | None, ruling: Decision[RulingForm] | None, review: Decision[ReviewForm] | None
) -> Referral:
    """In words that the regulator reads."""
    if review is not None:
        return Referral(reason="the senior reviewer refers the case to the Ombudsman")
    if ruling is not None and ruling.answer.outcome is Ruling.REFER:
        return Referral(reason="the branch manager refers the case to the Ombudsman")
    if ruling is not None or acknowledged is not None:
        return Referral(reason="nobody reviewed the case in time")
    return Referral(reason="neither the relationship manager nor the branch manager acted in time")
