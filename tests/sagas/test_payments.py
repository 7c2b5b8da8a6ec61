"""The payment saga, specified: who may agree to what, in which order, until when, and what is undone otherwise."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from events.payments import (
    ApprovalGranted,
    ApprovalRejected,
    ApprovalRequired,
    ApprovalWithdrawn,
    CancelHold,
    Denial,
    HoldPayment,
    PaymentHeld,
    PaymentReleased,
    PaymentToApprove,
    ReleasePayment,
)
from orchestrator.testing import (
    APPROVE,
    REJECT,
    Output,
    Spec,
    arrived,
    asked,
    cancelled,
    compensated,
    decided,
    delegated,
    denied,
    elapsed,
    ended,
    entered,
    escalated,
    given,
    opened,
    published,
    refused,
    replied,
    settled_done,
    settled_not_done,
    settling,
    stuck,
    unanswered,
)
from orchestrator.testing.explore import explore
from sagas.payments.definition import (
    EXPIRED,
    REJECTED,
    WITHDRAWN,
    PaymentState,
    committee_approval,
    first_approval,
    hold_payment,
    payment_approval,
    release_payment,
    second_approval,
)
from sagas.payments.settings import payment_settings

HELD = replied(hold_payment, PaymentHeld(hold_id="H-1"))
RELEASED = replied(release_payment, PaymentReleased(reference="P-1"))
FIRST = decided(first_approval, APPROVE, by="ana")
RELEASE = asked(ReleasePayment(hold_id="H-1", purpose="invoice 7"))
VERY_LARGE = 4_000_000


def request(amount: int = 250_000, **other: Any) -> ApprovalRequired:
    """A payment that tom has entered; its beneficiary is known to this house as nora."""
    return ApprovalRequired(
        payment_id="PAY-1",
        requested_by="tom",
        debtor_account="acme-operating",
        beneficiary="Nordic Steel",
        beneficiary_account="nordic-steel",
        beneficiary_id="nora",
        amount=Decimal(amount),
        purpose="invoice 7",
        **other,
    )


def shown(amount: int = 250_000, *approved_by: str) -> PaymentToApprove:
    return PaymentToApprove(
        payment_id="PAY-1",
        requested_by="tom",
        debtor_account="acme-operating",
        beneficiary="Nordic Steel",
        beneficiary_account="nordic-steel",
        amount=Decimal(amount),
        currency="EUR",
        purpose="invoice 7",
        approved_by=approved_by,
    )


def first(amount: int = 250_000) -> Spec:
    """The amount is held; the first approval is waited for."""
    return given(payment_approval, request(amount), HELD)


def second(amount: int = 250_000) -> Spec:
    """The first approval is there; the second is waited for."""
    return given(payment_approval, request(amount), HELD, FIRST)


def released(*by: str, amount: int = 250_000) -> list[Output]:
    """The good end."""
    told = ApprovalGranted(
        payment_id="PAY-1",
        reference="P-1",
        amount=Decimal(amount),
        currency="EUR",
        requested_by="tom",
        approved_by=by,
    )
    return [entered(PaymentState.RELEASED), published(told), ended("completed")]


def back(denial: Denial, reason: str, *, by: str = "", words: str = "", held: bool = True) -> list[Output]:
    """The other end: the hold is given free, then the payment systems are told."""
    said = f"{reason}: {words}" if words else reason
    told = ApprovalRejected(payment_id="PAY-1", denial=denial, reason=said, rejected_by=by)
    undo = [asked(CancelHold(hold_id="H-1"))] if held else []
    return [*undo, entered(PaymentState.DENIED), published(told), compensated(reason)]


# --- forward


def test_two_people_agree_and_the_payment_is_released() -> None:
    """Pending, first approval, second approval, released; the event names both in order."""
    spec = given(payment_approval, request()).then(
        asked(
            HoldPayment(
                payment_id="PAY-1",
                debtor_account="acme-operating",
                beneficiary_account="nordic-steel",
                amount=Decimal(250_000),
                currency="EUR",
            )
        )
    )
    spec.when(HELD).then(opened(first_approval, shown()))
    spec.when(FIRST).then(entered(PaymentState.FIRST_APPROVED), opened(second_approval, shown(250_000, "ana")))
    spec.when(decided(second_approval, APPROVE, by="ben")).then(RELEASE)
    spec.when(RELEASED).then(*released("ana", "ben"))


def test_the_events_have_the_names_that_the_payment_systems_know() -> None:
    """Exactly as they are spelt on the topic, keyed by the payment."""
    names = [event.wire_name for event in (ApprovalRequired, ApprovalGranted, ApprovalRejected)]
    assert names == [
        "bank.payments.approval_required",
        "bank.payments.approval_granted",
        "bank.payments.approval_rejected",
    ]
    assert {event.context for event in (ApprovalRequired, ApprovalGranted, ApprovalRejected)} == {"bank.payments"}
    assert request().key() == "PAY-1"


@pytest.mark.parametrize(("amount", "task"), [(999_999, second_approval), (1_000_000, committee_approval)])
def test_from_the_committees_amount_on_the_committee_decides(amount: int, task: Any) -> None:
    """The amount itself belongs to the committee."""
    first(amount).when(FIRST).then(entered(PaymentState.FIRST_APPROVED), opened(task))


def test_an_amount_of_another_currency_is_the_committees() -> None:
    """900,000 dinars are more than a million euros; nothing is converted, so nothing slips through."""
    spec = given(payment_approval, request(900_000, currency="BHD"), HELD)
    by_senior = decided(first_approval, APPROVE, by="sam", roles=("payments-senior",))
    spec.when(by_senior).then(entered(PaymentState.FIRST_APPROVED), opened(committee_approval))


def test_a_very_large_payment_takes_two_members_of_the_committee() -> None:
    """One vote is not enough, the same member twice is one member, and all three are named at the end."""
    spec = second(VERY_LARGE)
    spec.when(decided(committee_approval, APPROVE, by="cleo")).then_nothing()
    spec.when(decided(committee_approval, APPROVE, by="cleo")).then(denied("voted_already"))
    spec.when(decided(committee_approval, APPROVE, by="carl")).then(RELEASE)
    spec.when(RELEASED).then(*released("ana", "cleo", "carl", amount=VERY_LARGE))


def test_one_no_of_the_committee_is_enough() -> None:
    """After one yes."""
    spec = second(VERY_LARGE).when(decided(committee_approval, APPROVE, by="cleo"))
    spec.when(decided(committee_approval, REJECT, by="carl")).then(*back(Denial.REJECTED, REJECTED, by="carl"))


# --- maker and checker


@pytest.mark.parametrize("by", ["tom", "nora"])
def test_requester_and_beneficiary_decide_nothing(by: str) -> None:
    """Neither the first approval nor the second, whatever their roles; not even a rejection."""
    for answer in (APPROVE, REJECT):
        first().when(decided(first_approval, answer, by=by)).then(denied("excluded"))
        second().when(decided(second_approval, answer, by=by)).then(denied("excluded"))
        second(VERY_LARGE).when(decided(committee_approval, answer, by=by)).then(denied("excluded"))


def test_the_first_approver_does_not_give_the_second_approval() -> None:
    """Four eyes are two people, also where one holds both roles."""
    second().when(decided(second_approval, APPROVE, by="ana")).then(denied("excluded"))
    second(VERY_LARGE).when(decided(committee_approval, APPROVE, by="ana")).then(denied("excluded"))


def test_the_excluded_stay_excluded_when_they_vote_for_somebody_else() -> None:
    """A substitute gains no rights, and who is excluded hands none on."""
    spec = first().when(delegated(first_approval, by="ana", to="tom")).then(denied("excluded"))
    spec.when(delegated(first_approval, by="tom", to="dora")).then(denied("excluded"))
    spec.when(delegated(first_approval, by="ana", to="dora"))
    spec.when(decided(first_approval, APPROVE, by="dora", on_behalf_of="ana", roles=()))
    spec.then(entered(PaymentState.FIRST_APPROVED), opened(second_approval))
    for person in ("dora", "ana"):
        spec.when(decided(second_approval, APPROVE, by=person)).then(denied("excluded"))


@pytest.mark.parametrize(
    ("amount", "currency", "role", "code"),
    [
        (500_000, "EUR", "payments-approver", ""),
        (500_001, "EUR", "payments-approver", "over_limit"),
        (500_000, "USD", "payments-approver", ""),
        (10, "SEK", "payments-approver", "over_limit"),
        (10, "SEK", "payments-senior", ""),
        (VERY_LARGE, "EUR", "payments-senior", ""),
    ],
)
def test_an_approvers_authority_ends_at_an_amount(amount: int, currency: str, role: str, code: str) -> None:
    """Per currency, and none is converted; who holds both roles has the greater authority."""
    spec = given(payment_approval, request(amount, currency=currency), HELD)
    spec.when(decided(first_approval, APPROVE, by="ana", roles=(role,)))
    if code:
        spec.then(denied(code))
        spec.when(decided(first_approval, APPROVE, by="ana", roles=(role, "payments-senior")))
    assert entered(PaymentState.FIRST_APPROVED).fits(spec.outputs[-2])


def test_a_role_of_the_first_step_does_not_decide_the_second() -> None:
    """Approvers are no seniors."""
    vote = decided(second_approval, APPROVE, by="ben", roles=("payments-approver",))
    second().when(vote).then(denied("not_eligible"))


# --- the other ends


@pytest.mark.parametrize("start", [first, second])
def test_a_rejection_gives_the_hold_free_and_names_who_and_why(start: Any) -> None:
    """At either step."""
    task = first_approval if start is first else second_approval
    spec = start().when(decided(task, REJECT, by="ben", reason="no invoice"))
    spec.then(*back(Denial.REJECTED, REJECTED, by="ben", words="no invoice"))


@pytest.mark.parametrize("start", [first, second])
def test_an_approval_that_nobody_gives_expires_after_a_day(start: Any) -> None:
    """Each step has a day; the supervisors may decide as well after four hours."""
    task = first_approval if start is first else second_approval
    spec = start()
    spec.when(elapsed(hours=4)).then(escalated(task))
    spec.when(elapsed(hours=19)).then_nothing()
    spec.when(elapsed(hours=1)).then(*back(Denial.EXPIRED, EXPIRED))
    spec.when(decided(task, APPROVE, by="ben")).then(denied("expired"))


def test_a_supervisor_may_decide_once_it_was_escalated_and_not_before() -> None:
    """The ladder adds people; it takes nobody away."""
    vote = decided(first_approval, APPROVE, by="sue", roles=("payments-supervisor",))
    spec = first().when(vote).then(denied("not_eligible"))
    spec.when(elapsed(hours=4)).then(escalated(first_approval))
    spec.when(vote).then(entered(PaymentState.FIRST_APPROVED), opened(second_approval))


def test_after_three_days_of_downtime_it_has_expired_once_and_nothing_is_released() -> None:
    """Whatever was missed comes in order, and then the end."""
    spec = first().when(elapsed(days=3))
    spec.then(escalated(first_approval), *back(Denial.EXPIRED, EXPIRED))


def test_a_payment_may_ask_for_less_time_but_never_for_more() -> None:
    """Half an hour counts; a month is a day."""
    short = given(payment_approval, request(approve_within_seconds=1800), HELD)
    short.when(elapsed(minutes=29)).then_nothing()
    short.when(elapsed(minutes=1)).then(*back(Denial.EXPIRED, EXPIRED))
    long = given(payment_approval, request(approve_within_seconds=30 * 86_400), HELD).when(elapsed(hours=24))
    long.then(escalated(first_approval), *back(Denial.EXPIRED, EXPIRED))


@pytest.mark.parametrize("start", [first, second])
def test_the_requester_may_withdraw_while_it_waits(start: Any) -> None:
    """The open task goes with it."""
    task = first_approval if start is first else second_approval
    spec = start().when(arrived(ApprovalWithdrawn(payment_id="PAY-1", withdrawn_by="tom")))
    spec.then(*back(Denial.WITHDRAWN, WITHDRAWN))
    spec.when(decided(task, APPROVE, by="ben")).then(denied("withdrawn"))


def test_a_withdrawal_after_the_second_approval_changes_nothing() -> None:
    """The release was asked for."""
    spec = second().when(decided(second_approval, APPROVE, by="ben"))
    spec.when(arrived(ApprovalWithdrawn(payment_id="PAY-1"))).then_nothing()
    spec.when(RELEASED).then(*released("ana", "ben"))


def test_an_operator_who_cancels_frees_the_hold() -> None:
    """And the payment systems hear why."""
    reason = "cancelled by olga: sanctions hit"
    first().when(cancelled("olga", "sanctions hit")).then(*back(Denial.FAILED, reason))


def test_nothing_is_held_where_clearing_says_no() -> None:
    """A business no is told to the payment systems, not to the operators."""
    reason = "insufficient_funds: 4000 EUR is free"
    given(payment_approval, request()).when(refused(hold_payment, reason)).then(
        *back(Denial.FAILED, reason, held=False)
    )


def test_a_hold_without_answer_is_settled_before_anybody_is_told() -> None:
    """Done or not done: both."""
    spec = given(payment_approval, request()).when(unanswered(hold_payment)).then(settling(hold_payment))
    spec.when(settled_done(hold_payment, PaymentHeld(hold_id="H-1")))
    spec.then(*back(Denial.FAILED, "no answer in time"))
    spec = given(payment_approval, request(), unanswered(hold_payment)).when(settled_not_done(hold_payment))
    spec.then(*back(Denial.FAILED, "no answer in time", held=False))


def test_a_release_without_answer_is_never_guessed() -> None:
    """Only a definite answer moves the saga; where nobody can know, two people settle it."""
    spec = second().when(decided(second_approval, APPROVE, by="ben")).then(RELEASE)
    spec.when(unanswered(release_payment)).then(settling(release_payment))
    spec.when(settled_done(release_payment, PaymentReleased(reference="P-1"))).then(*released("ana", "ben"))
    spec = second().when(decided(second_approval, APPROVE, by="ben"))
    spec.when(unanswered(release_payment), unanswered(release_payment))
    assert spec.outputs[-1].kind == stuck(release_payment).kind


def test_the_rules_in_force_are_recorded_with_the_payment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that changes later changes nothing for a payment under way."""
    monkeypatch.setenv("ORCHESTRATOR_PAYMENT_COMMITTEE_FROM", "100")
    payment_settings.cache_clear()
    try:
        spec = given(payment_approval, request(100), HELD)
    finally:
        monkeypatch.undo()
        payment_settings.cache_clear()
    spec.when(FIRST).then(entered(PaymentState.FIRST_APPROVED), opened(committee_approval))
    recorded = next(record.data["value"] for record in spec.records if record.type == "value.computed")
    assert recorded == {"hours": 24.0, "size": "very_large", "committee_from": "100"}


@pytest.mark.parametrize("amount", [250_000, VERY_LARGE])
def test_whatever_happens_a_payment_ends_or_waits_for_a_person(amount: int) -> None:
    """Random votes, silences, duplicates, withdrawals and crashes, checked against the invariants."""
    assert set(explore(payment_approval, request(amount), seeds=60).ended) == {"completed", "compensated"}
