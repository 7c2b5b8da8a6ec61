"""The dispute saga, specified: from the complaint to its letter, through the compliance check and the review."""

from __future__ import annotations

from decimal import Decimal

import pytest

from events.disputes import (
    AssignManager,
    Category,
    ClassifyCase,
    Finding,
    Priority,
    RmAcknowledged,
    Ruling,
    Severity,
)
from orchestrator.testing import (
    arrived,
    asked,
    awaits,
    decided,
    denied,
    elapsed,
    entered,
    escalated,
    given,
    opened,
    reminded,
    replied,
    stands_in,
)
from sagas.disputes.definition import DisputeState, branch_ruling, dispute, manager_decision, senior_review
from sagas.disputes.steps import (
    check_finding,
    check_ruling,
)
from tests.sagas.complaints import (
    ACKNOWLEDGED,
    ASSIGN,
    CLASSIFY,
    FAILED,
    PASSED,
    RATIONALE,
    assigned,
    check,
    closes,
    finding,
    in_review,
    refers,
    request,
    review,
    ruling,
    shown,
    with_manager,
)

# --- the straight way


def test_a_case_is_classified_assigned_taken_on_decided_checked_and_closed() -> None:
    """What each of them is asked, and what each is told."""
    spec = given(dispute, request()).then(
        asked(
            ClassifyCase(
                case_summary="The merchant took the card payment twice.",
                dispute_amount=Decimal(4250),
                priority=Priority.HIGH,
            )
        )
    )
    spec.when(CLASSIFY).then(
        asked(
            AssignManager(
                doc_id="DSP00042",
                customer_id="CUST00012",
                rm_email="rosa@bank.example",
                dispute_amount=Decimal(4250),
                currency="GBP",
                priority=Priority.HIGH,
                category=Category.CARD,
                severity=Severity.HIGH,
            )
        )
    )
    spec.when(ASSIGN).then(entered(DisputeState.ASSIGNED), awaits(RmAcknowledged))
    spec.when(ACKNOWLEDGED).then(entered(DisputeState.WITH_MANAGER), opened(manager_decision, shown()))
    spec.when(decided(manager_decision, finding(), by="rosa")).then(asked(check()))
    spec.when(replied(check_finding, PASSED))
    closes(spec, "Resolved", "rosa")


def test_an_acknowledgement_has_the_name_that_other_systems_know() -> None:
    """And is matched by the case."""
    assert RmAcknowledged.wire_name == "disputes.rm_acknowledged"
    assigned().when(arrived(RmAcknowledged(doc_id="DSP00043"))).then_nothing()


def test_an_acknowledgement_that_comes_before_the_case_is_assigned_counts() -> None:
    """Another topic, another speed: a manager who is quicker than the case table is not punished."""
    spec = given(dispute, request(), CLASSIFY, ACKNOWLEDGED).when(ASSIGN)
    assert [entered(DisputeState.WITH_MANAGER).fits(found) for found in spec.outputs].count(True) == 1
    assert any(opened(manager_decision).fits(found) for found in spec.outputs)


def test_a_partial_refund_pays_the_share_that_was_decided() -> None:
    """A third of 4250.00, to the cent, and the check sees the amount."""
    spec = with_manager().when(decided(manager_decision, finding(Finding.PARTIAL_REFUND, 33), by="rosa"))
    spec.then(asked(check("Partial Refund", "1402.50"))).when(replied(check_finding, PASSED))
    closes(spec, "Partial Refund", "rosa", "1402.50")


def test_a_share_counts_for_a_partial_refund_alone() -> None:
    """A resolved case pays nothing, whatever the form's other field says."""
    spec = with_manager().when(decided(manager_decision, finding(Finding.RESOLVED, 99), by="rosa"))
    spec.then(asked(check())).when(replied(check_finding, PASSED))
    closes(spec, "Resolved", "rosa")


@pytest.mark.parametrize("by", ["raj", "bruno", "CUST00012"])
def test_only_the_assigned_manager_decides(by: str) -> None:
    """Not a colleague, not the branch manager, not the customer."""
    spec = with_manager().when(decided(manager_decision, finding(), by=by))
    spec.then(denied("excluded" if by == "CUST00012" else "not_eligible"))


# --- the compliance check


def test_a_rationale_that_fails_goes_back_once_with_the_feedback() -> None:
    """The second attempt shows the first one and what was wrong with it."""
    spec = with_manager(decided(manager_decision, finding(), by="rosa")).when(replied(check_finding, FAILED))
    line = f"Resolved: {RATIONALE} | compliance check failed: Name what you looked at."
    spec.then(opened(manager_decision, shown(line)))
    spec.when(decided(manager_decision, finding(Finding.PARTIAL_REFUND, 50), by="rosa"))
    spec.when(replied(check_finding, PASSED))
    closes(spec, "Partial Refund", "rosa", "2125")


def test_after_two_failures_a_senior_reviewer_has_the_last_word() -> None:
    """There is no third attempt; the reviewer sees both, and is not checked again."""
    line = f"Resolved: {RATIONALE} | compliance check failed: Name what you looked at."
    once = (decided(manager_decision, finding(), by="rosa"), replied(check_finding, FAILED))
    spec = with_manager(*once, once[0]).when(once[1])
    spec.then(entered(DisputeState.IN_REVIEW), opened(senior_review, shown(line, line)))
    spec.when(decided(senior_review, review(Ruling.PARTIAL_REFUND, 10), by="silas"))
    closes(spec, "Partial Refund", "silas", "425")


def test_an_escalated_case_is_reviewed_although_its_rationale_passes() -> None:
    """A manager who escalates closes nothing."""
    spec = with_manager(decided(manager_decision, finding(Finding.ESCALATE), by="rosa")).when(
        replied(check_finding, PASSED)
    )
    spec.then(
        entered(DisputeState.IN_REVIEW),
        opened(senior_review, shown(f"Escalate: {RATIONALE} | compliance check passed")),
    )
    spec.when(decided(senior_review, review(), by="silas"))
    closes(spec, "Resolved", "silas")


@pytest.mark.parametrize("by", ["rosa", "bruno"])
def test_nobody_reviews_their_own_case(by: str) -> None:
    """Neither the manager nor the branch manager, whatever their roles; each is named once."""
    spec = in_review()
    spec.when(decided(senior_review, review(), by=by)).then(denied("excluded"))
    [task] = [record.data for record in spec.records if record.activity.endswith("senior_review")]
    assert task["excluded"] == ["CUST00012", "rosa", "bruno"]


def test_whoever_found_for_the_manager_does_not_review_it_either() -> None:
    """Somebody of the complaints desk who is a senior reviewer, too."""
    spec = with_manager(elapsed(hours=48))
    spec.when(decided(manager_decision, finding(Finding.ESCALATE), by="cora", roles=("complaints-desk",)))
    spec.when(replied(check_finding, PASSED))
    spec.when(decided(senior_review, review(), by="cora")).then(denied("excluded"))


@pytest.mark.parametrize("customer", ["rosa", "bruno", "silas"])
def test_nobody_decides_a_dispute_of_their_own(customer: str) -> None:
    """Who works here may be a customer, too, who names the manager of their case and would get the money."""
    begun = given(dispute, request(customer_id=customer), CLASSIFY, ASSIGN)
    if customer == "rosa":
        vote = decided(manager_decision, finding(), by="rosa")
        begun.when(ACKNOWLEDGED).when(vote).then(denied("excluded"))
        return
    begun.when(elapsed(hours=24))
    if customer == "bruno":
        begun.when(decided(branch_ruling, ruling(), by="bruno")).then(denied("excluded"))
        return
    begun.when(decided(branch_ruling, ruling(), by="bruno")).when(replied(check_ruling, FAILED))
    begun.when(decided(senior_review, review(), by="silas")).then(denied("excluded"))


@pytest.mark.parametrize("by", ["cora", "cleo"])
def test_nor_does_whoever_found_only_the_first_time(by: str) -> None:
    """The desk found first, for somebody who was away or not; the manager was back for the second finding."""
    desk = ("complaints-desk",)
    away = [stands_in("cleo", *desk)]
    spec = with_manager(elapsed(hours=48))
    spec.when(decided(manager_decision, finding(), by="cora", roles=(), stands_in=away))
    spec.when(replied(check_finding, FAILED))
    spec.when(decided(manager_decision, finding(), by="rosa")).when(replied(check_finding, FAILED))
    spec.when(decided(senior_review, review(), by=by)).then(denied("excluded"))


def test_a_reviewer_may_refer_the_case() -> None:
    """To the Ombudsman, with a notification."""
    spec = in_review().when(decided(senior_review, review(Ruling.REFER), by="silas"))
    refers(spec, "the senior reviewer refers the case to the Ombudsman")


def test_a_review_that_nobody_makes_refers_the_case() -> None:
    """After three days."""
    spec = in_review().when(elapsed(hours=71)).then_nothing()
    refers(spec.when(elapsed(hours=1)), "nobody reviewed the case in time")


def test_a_finding_that_never_comes_goes_to_review() -> None:
    """The complaints desk may find for the manager after two days; after three, a reviewer has the case, and after
    three more the Ombudsman, who hears that it was the review that nobody made."""
    spec = with_manager().when(elapsed(hours=48)).then(reminded(manager_decision), escalated(manager_decision))
    spec.when(elapsed(hours=24)).then(
        entered(DisputeState.IN_REVIEW), opened(senior_review, shown("nobody decided the case in time"))
    )
    refers(spec.when(elapsed(hours=72)), "nobody reviewed the case in time")


def test_a_managers_own_case_waits_for_nobody_who_may_not_decide_it() -> None:
    """The complaints desk is asked at once, not after the two days in which only the manager could have found."""
    desk = [{"role": "complaints-desk"}]
    spec = given(dispute, request(customer_id="rosa"), CLASSIFY, ASSIGN).when(ACKNOWLEDGED)
    assert [record.data["to"] for record in spec.records if record.type == "task.opened"] == [desk]
    spec.when(decided(manager_decision, finding(), by="cora", roles=("complaints-desk",)))
    assert [record.data["vote"]["by"] for record in spec.records if record.type == "task.voted"] == ["cora"]
    spec = given(dispute, request(customer_id="bruno"), CLASSIFY, ASSIGN, elapsed(hours=24))
    assert [record.data["to"] for record in spec.records if record.type == "task.opened"] == [desk]


def test_the_complaints_desk_finds_for_a_manager_who_is_away() -> None:
    """After the escalation, not before; and it is named."""
    vote = decided(manager_decision, finding(), by="cora", roles=("complaints-desk",))
    spec = with_manager().when(vote).then(denied("not_eligible"))
    spec.when(elapsed(hours=48)).then(reminded(manager_decision), escalated(manager_decision))
    spec.when(vote).then(asked(check()))
    spec.when(replied(check_finding, PASSED))
    closes(spec, "Resolved", "cora")
