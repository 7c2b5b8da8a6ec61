"""Disputes: classify → assign → acknowledged in a day → a finding that passes the compliance check → closed.

Not acknowledged: the branch manager has two days, and then the case refers itself to the Ombudsman. A finding whose
rationale fails the compliance check goes back once with the feedback; after a second failure, a senior reviewer has the
last word. A complaint never vanishes: nothing here is undone, every path ends in Closed or Referred to Ombudsman, and a
model that is away delays no case (rules classify in its place, and a person reads what it cannot check).
"""

from __future__ import annotations

from datetime import timedelta
from enum import Enum

from events.disputes import (
    CaseClassified,
    CaseFile,
    ComplianceChecked,
    DisputeRaised,
    FindingForm,
    ManagerAssigned,
    ReviewForm,
    RmAcknowledged,
    Ruling,
    RulingForm,
)
from orchestrator import (
    Decision,
    Escalate,
    Person,
    Role,
    Saga,
    compute,
    end,
    enter,
    leave,
    publish,
    repeat,
    task,
    wait_for,
    when,
)
from sagas.disputes.outcome import is_compliant, needs_review, pays_refund, referral, settlement
from sagas.disputes.steps import (
    assign_manager,
    check_finding,
    check_ruling,
    classify_by_rules,
    classify_case,
    close_case,
    dispute_closed,
    dispute_referred,
    notify_regulator,
    pay_refund,
    refer_case,
    tell_of_the_end,
    tell_of_the_referral,
)
from sagas.disputes.times import DisputeTimes, dispute_times

COMPLAINTS_DESK, REVIEWERS = Role("complaints-desk"), Role("senior-reviewer")
FINDINGS_MAX = 2


class DisputeState(Enum):
    """The life of a case, as its customer knows it."""

    RECEIVED = "received"
    ASSIGNED = "assigned"
    WITH_MANAGER = "with_manager"
    WITH_BRANCH = "with_branch"
    IN_REVIEW = "in_review"
    CLOSED = "closed"
    REFERRED = "referred"


def acknowledge_within(times: DisputeTimes) -> timedelta:
    return timedelta(hours=times.acknowledge)


def branch_within(times: DisputeTimes) -> timedelta:
    return timedelta(hours=times.branch)


def finding_within(times: DisputeTimes) -> timedelta:
    return timedelta(hours=times.finding)


def review_within(times: DisputeTimes) -> timedelta:
    return timedelta(hours=times.review)


def the_manager(request: DisputeRaised, assigned: ManagerAssigned) -> Person | Role:
    return _not_of_their_own(request, assigned.manager)


def the_customer(request: DisputeRaised) -> Person:
    """Who works here may be a customer, too, and names the manager of their case: nobody decides their own."""
    return Person(request.customer_id)


def the_branch_manager(request: DisputeRaised, assigned: ManagerAssigned) -> Person | Role:
    return _not_of_their_own(request, assigned.branch_manager)


def _not_of_their_own(request: DisputeRaised, person: str) -> Person | Role:
    """Who may not decide their own case would only be waited for: the complaints desk has it from the beginning."""
    return COMPLAINTS_DESK if person == request.customer_id else Person(person)


def those_before(
    assigned: ManagerAssigned, findings: list[Decision[FindingForm]], ruling: Decision[RulingForm] | None
) -> list[Person]:
    """Whoever had the case before a review, each finding's decider and who was stood in for: nobody reviews their own
    decision."""
    decisions: list[Decision[FindingForm] | Decision[RulingForm]] = [*findings]
    if ruling is not None:
        decisions.append(ruling)
    people = [person.id for decision in decisions for person in (decision.by, decision.on_behalf_of) if person]
    return [Person(id_) for id_ in dict.fromkeys([assigned.manager, assigned.branch_manager, *people])]


def case_file(
    request: DisputeRaised, classified: CaseClassified, assigned: ManagerAssigned, earlier: tuple[str, ...] = ()
) -> CaseFile:
    """The full case, for whoever decides it."""
    return CaseFile(
        doc_id=request.doc_id,
        customer_id=request.customer_id,
        case_summary=request.case_summary,
        dispute_amount=request.dispute_amount,
        currency=request.currency,
        priority=request.priority,
        category=classified.category,
        severity=classified.severity,
        classified_by=classified.engine,
        read_with_care=classified.suspicious,
        manager=assigned.manager,
        branch=assigned.branch,
        earlier=earlier,
    )


def told(outcome: Enum, rationale: str, checked: ComplianceChecked | None) -> str:
    """One earlier attempt in a line: what was found, and what the check said of it."""
    if checked is None:
        return f"{outcome.value}: {rationale} | could not be checked"
    said = "passed" if checked.passed else f"failed: {' '.join(checked.feedback)}"
    return f"{outcome.value}: {rationale} | compliance check {said}"


@task(
    to=the_manager,
    within=finding_within,
    answer=FindingForm,
    exclude=[the_customer],
    remind=[timedelta(hours=24)],
    escalate=[Escalate(after=timedelta(hours=48), to=COMPLAINTS_DESK)],
)
def manager_decision(
    request: DisputeRaised,
    classified: CaseClassified,
    assigned: ManagerAssigned,
    findings: list[Decision[FindingForm]],
    checks: list[ComplianceChecked],
) -> CaseFile:
    """Decide the case. Say in the rationale what you have looked at, what it shows, and why that decides the case;
    a regulator may read it."""
    earlier = zip(findings, checks, strict=False)
    lines = tuple(told(found.answer.outcome, found.answer.rationale, checked) for found, checked in earlier)
    return case_file(request, classified, assigned, lines)


@task(
    to=the_branch_manager,
    within=branch_within,
    answer=RulingForm,
    exclude=[the_customer],
    remind=[timedelta(hours=24)],
)
def branch_ruling(request: DisputeRaised, classified: CaseClassified, assigned: ManagerAssigned) -> CaseFile:
    """The relationship manager did not take the case on in time. Decide it, or refer it to the Ombudsman; it refers
    itself when your time is over."""
    return case_file(request, classified, assigned, ("the relationship manager did not acknowledge the case in time",))


@task(to=REVIEWERS, within=review_within, answer=ReviewForm, exclude=[the_customer, those_before])
def senior_review(
    request: DisputeRaised,
    classified: CaseClassified,
    assigned: ManagerAssigned,
    findings: list[Decision[FindingForm]],
    ruling: Decision[RulingForm] | None,
    checks: list[ComplianceChecked],
) -> CaseFile:
    """Give the case its last word: it was escalated, or its rationale did not pass the compliance check."""
    answers: list[FindingForm | RulingForm] = [decision.answer for decision in findings]
    if ruling is not None:
        answers.append(ruling.answer)
    checked = [*checks, *([None] * (len(answers) - len(checks)))]
    lines = tuple(told(one.outcome, one.rationale, check) for one, check in zip(answers, checked, strict=False))
    return case_file(request, classified, assigned, lines or ("nobody decided the case in time",))


to_ombudsman = [
    compute(referral),
    refer_case,
    enter(DisputeState.REFERRED),
    notify_regulator,
    tell_of_the_referral,
    publish(dispute_referred),
    end("referred"),
]

dispute = Saga(
    "dispute",
    version=1,
    starts_on=DisputeRaised,
    forward_only=True,
    states={
        DisputeState.RECEIVED: [DisputeState.ASSIGNED],
        DisputeState.ASSIGNED: [DisputeState.WITH_MANAGER, DisputeState.WITH_BRANCH],
        DisputeState.WITH_MANAGER: [DisputeState.IN_REVIEW, DisputeState.CLOSED],
        DisputeState.WITH_BRANCH: [DisputeState.IN_REVIEW, DisputeState.CLOSED, DisputeState.REFERRED],
        DisputeState.IN_REVIEW: [DisputeState.CLOSED, DisputeState.REFERRED],
        DisputeState.CLOSED: [],
        DisputeState.REFERRED: [],
    },
    flow=[
        compute(dispute_times),
        classify_case.on_exhausted(classify_by_rules),
        assign_manager,
        enter(DisputeState.ASSIGNED),
        wait_for(RmAcknowledged, within=acknowledge_within)
        .then(
            enter(DisputeState.WITH_MANAGER),
            repeat(
                manager_decision.otherwise().on_timeout(leave()),
                check_finding.on_exhausted(leave()),
                when(is_compliant, leave()),
                at_most=FINDINGS_MAX,
            ).otherwise(),
        )
        .on_timeout(
            enter(DisputeState.WITH_BRANCH),
            branch_ruling.otherwise().on(Ruling.REFER, to_ombudsman).on_timeout(to_ombudsman),
            check_ruling.on_exhausted(),
        ),
        when(
            needs_review,
            enter(DisputeState.IN_REVIEW),
            senior_review.otherwise().on(Ruling.REFER, to_ombudsman).on_timeout(to_ombudsman),
        ),
        compute(settlement),
        when(pays_refund, pay_refund),
        close_case,
        enter(DisputeState.CLOSED),
        tell_of_the_end,
        publish(dispute_closed),
    ],
)
