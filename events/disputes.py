"""Contracts of disputes: what customers, relationship managers, the model and the case desk say to each other.

Topics: `disputes.events` (keyed by the document id of the complaint), and commands and replies of the participants
case_desk (the case table, refunds, letters) and case_ai (classification and compliance, which only read).
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from orchestrator import Command, Done, Event, Form, Key, Personal, Reply

Amount = Annotated[Decimal, Field(ge=0, max_digits=15, decimal_places=2)]
Currency = Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
Email = Annotated[str, Field(min_length=3, max_length=254, pattern=r"^[^@\s\x00-\x1f]+@[^@\s\x00-\x1f]+$")]
DocId = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
CustomerId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]
Summary = Annotated[str, Field(min_length=1, max_length=8_000)]
Rationale = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4_000,
        pattern=r"^[^\x00]+$",
        examples=["The statement shows that the payment was taken twice, therefore one of them is refunded."],
    ),
]
Sentence = Annotated[str, Field(max_length=500)]


class Priority(Enum):
    """How the customer's case was marked when it came. An urgent one (a vulnerable customer) may have shorter times."""

    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"
    URGENT = "Urgent"


class Severity(Enum):
    """How bad it is for the customer."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class Category(Enum):
    """What the complaint is about."""

    UNAUTHORISED_TRANSACTION = "unauthorised_transaction"
    FEES_AND_CHARGES = "fees_and_charges"
    CARD = "card"
    PAYMENT_ERROR = "payment_error"
    LENDING = "lending"
    SERVICE = "service"
    OTHER = "other"


class Finding(Enum):
    """How a relationship manager decides a dispute."""

    RESOLVED = "Resolved"
    PARTIAL_REFUND = "Partial Refund"
    ESCALATE = "Escalate"


class Ruling(Enum):
    """How a branch manager or a senior reviewer decides a dispute."""

    RESOLVED = "Resolved"
    PARTIAL_REFUND = "Partial Refund"
    REFER = "Refer to Ombudsman"


class CaseStatus(Enum):
    """What the case table says of a case."""

    OPEN = "Open"
    CLOSED = "Closed"
    REFERRED = "Referred to Ombudsman"


class LetterKind(Enum):
    """What a letter to a customer is about."""

    CLOSED = "closed"
    REFERRED = "referred"


# --- events -----------------------------------------------------------------------------------------------------------


class DisputeRaised(Event, name="disputes.dispute_raised"):
    """A customer disputes something. `rm_email`: the relationship manager whom the customer's file names."""

    doc_id: Key[DocId] = Field(examples=["DSP00042"])
    customer_id: Personal[CustomerId] = Field(examples=["CUST00012"])
    rm_email: Personal[Email] = Field(examples=["rosa@bank.example"])
    case_summary: Personal[Summary] = Field(examples=["A card payment that I never made was taken from my account."])
    dispute_amount: Amount = Field(examples=["4250.00"])
    priority: Priority = Priority.MEDIUM
    currency: Currency = "GBP"


class RmAcknowledged(Event, name="disputes.rm_acknowledged"):
    """The relationship manager has seen the case and takes it on."""

    doc_id: Key[DocId]
    acknowledged_by: Personal[str] = ""


class DisputeClosed(Event, name="disputes.dispute_closed"):
    """The case is decided, written down, and the customer is told. `decided_by`: who gave the last word."""

    doc_id: Key[DocId]
    resolution: str
    refund: Amount
    currency: Currency
    decided_by: Personal[str]
    closed_at: datetime


class DisputeReferred(Event, name="disputes.dispute_referred"):
    """The case went to the Ombudsman, and the regulator is notified. `reason`: why nobody here has the last word."""

    doc_id: Key[DocId]
    reason: Sentence
    notification_id: str


# --- the model, or the rules in its place: reads, and changes nothing ------------------------------------------------


class CaseClassified(Reply, context="disputes"):
    """What the complaint is about, and how bad it is. `engine`: who says so. `suspicious`: the text speaks to a
    machine, so that a person should read it with care."""

    category: Category
    severity: Severity
    confidence: float = Field(ge=0, le=1)
    explanation: Sentence = ""
    engine: str = Field(examples=["rules-1"])
    suspicious: bool = False


class ClassifyCase(Command[CaseClassified], to="case_ai", context="disputes"):
    """Say what a complaint is about. Nothing that names the customer is sent along. `by_rules`: without the model."""

    case_summary: Personal[Summary]
    dispute_amount: Amount
    priority: Priority
    by_rules: bool = False


class ComplianceChecked(Reply, context="disputes"):
    """Whether a rationale may be given to a regulator as it is. `feedback`: what must be said better, where not."""

    passed: bool
    feedback: tuple[Sentence, ...] = ()
    engine: str = Field(examples=["rules-1"])


class CheckCompliance(Command[ComplianceChecked], to="case_ai", context="disputes"):
    """Check the rationale of a decision against the complaint-handling rules."""

    case_summary: Personal[Summary]
    category: Category
    severity: Severity
    dispute_amount: Amount
    finding: str = Field(max_length=100)
    refund: Amount
    rationale: Personal[Rationale]


# --- the case desk ----------------------------------------------------------------------------------------------------


class ManagerAssigned(Reply, context="disputes"):
    """Who looks after the case: people by the ids under which they sign in. `stand_in`: the named manager is unknown
    or away, and the branch on duty has taken the case."""

    manager: Personal[str]
    branch: str
    branch_manager: Personal[str]
    stand_in: bool = False


class AssignManager(Command[ManagerAssigned], to="case_desk", context="disputes"):
    """Open the case in the case table and assign it, from the metadata of managers and branches."""

    doc_id: DocId
    customer_id: Personal[CustomerId]
    rm_email: Personal[Email]
    dispute_amount: Amount
    currency: Currency
    priority: Priority
    category: Category
    severity: Severity


class RefundPaid(Reply, context="disputes"):
    """The money is with the customer."""

    refund_id: str


class PayRefund(Command[RefundPaid], to="case_desk", context="disputes"):
    """Give the customer money back, once."""

    doc_id: DocId
    amount: Annotated[Decimal, Field(gt=0, max_digits=15, decimal_places=2)]
    currency: Currency


class CaseRecorded(Reply, context="disputes"):
    """The case table says so now."""

    recorded_at: datetime


class CloseCase(Command[CaseRecorded], to="case_desk", context="disputes"):
    """Write status, resolution and closed date."""

    doc_id: DocId
    resolution: str = Field(max_length=100)
    rationale: Personal[Rationale]
    refund: Amount
    decided_by: Personal[str]


class ReferCase(Command[CaseRecorded], to="case_desk", context="disputes"):
    """Write that the case went to the Ombudsman."""

    doc_id: DocId
    reason: Sentence


class RegulatorNotified(Reply, context="disputes"):
    """The notification lies in the regulator's outbox. `notification_id`: its number."""

    notification_id: str


class NotifyRegulator(Command[RegulatorNotified], to="case_desk", context="disputes"):
    """Notify the regulator that a case was referred."""

    doc_id: DocId
    category: Category
    severity: Severity
    dispute_amount: Amount
    currency: Currency
    reason: Sentence


class NotifyCustomer(Command[Done], to="case_desk", context="disputes"):
    """Write to the customer what became of the case, in plain words."""

    doc_id: DocId
    customer_id: Personal[CustomerId]
    kind: LetterKind
    resolution: str = Field(default="", max_length=100)
    refund: Amount = Decimal(0)
    currency: Currency = "GBP"


# --- what people fill in ----------------------------------------------------------------------------------------------


Share = Annotated[
    int, Field(ge=1, le=99, description="Percent of the disputed amount to pay back; counts for a Partial Refund alone")
]


class FindingForm(Form[Finding], name="disputes.FindingForm"):
    """The relationship manager's finding, with a rationale that a regulator may read."""

    rationale: Rationale
    refund_percent: Share = 50


class RulingForm(Form[Ruling], name="disputes.RulingForm"):
    """The branch manager's ruling, with a rationale that a regulator may read."""

    rationale: Rationale
    refund_percent: Share = 50


class ReviewForm(Form[Ruling], name="disputes.ReviewForm"):
    """The senior reviewer's ruling: the last word of this house."""

    rationale: Rationale
    refund_percent: Share = 50


# --- what people are shown --------------------------------------------------------------------------------------------


class CaseFile(BaseModel):
    """The full case, as it is decided on. `earlier`: findings so far and what the compliance check said of each."""

    model_config = ConfigDict(frozen=True)

    doc_id: DocId
    customer_id: str
    case_summary: str
    dispute_amount: Decimal
    currency: str
    priority: Priority
    category: Category
    severity: Severity
    classified_by: str
    read_with_care: bool
    manager: str
    branch: str
    earlier: tuple[str, ...] = ()
