"""The transfer saga, specified: what has happened, what comes, what follows."""

from __future__ import annotations

from decimal import Decimal

import pytest

from events.transfers import (
    ExecuteTransfer,
    FundsHeld,
    HoldFunds,
    ReleaseFunds,
    TransferCompleted,
    TransferExecuted,
    TransferFailed,
    TransferRequested,
    TransferToApprove,
    TransferValidated,
    TransferWithdrawn,
    ValidateTransfer,
)
from orchestrator.testing import (
    APPROVE,
    REJECT,
    arrived,
    asked,
    compensated,
    decided,
    denied,
    elapsed,
    ended,
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
from sagas.transfers.definition import (
    EXPIRED,
    REJECTED,
    WITHDRAWN,
    execute_transfer,
    hold_funds,
    manager_approval,
    transfer,
    validate_transfer,
)
from sagas.transfers.settings import transfer_settings

VALID = replied(validate_transfer, TransferValidated(to_account="kiran", available=Decimal(20000)))
HELD = replied(hold_funds, FundsHeld(hold_id="H-1"))
EXECUTED = TransferExecuted(reference="B-1")
RELEASE = ReleaseFunds(hold_id="H-1")


def request(amount: int = 6000) -> TransferRequested:
    return TransferRequested(
        transfer_id="t-1",
        session_id="s-1",
        user_id="ravi",
        from_account="ravi",
        recipient="Kiran",
        amount=Decimal(amount),
    )


def execute(amount: int = 6000) -> ExecuteTransfer:
    return ExecuteTransfer(
        transfer_id="t-1",
        hold_id="H-1",
        from_account="ravi",
        to_account="kiran",
        amount=Decimal(amount),
        currency="EUR",
    )


def completed(by: str) -> TransferCompleted:
    return TransferCompleted(transfer_id="t-1", session_id="s-1", reference="B-1", decided_by=by)


def failed(reason: str) -> TransferFailed:
    return TransferFailed(transfer_id="t-1", session_id="s-1", reason=reason)


def test_a_small_transfer_needs_nobody() -> None:
    spec = given(transfer, request(4999)).then(
        asked(ValidateTransfer(from_account="ravi", recipient="Kiran", amount=Decimal(4999), currency="EUR"))
    )
    spec.when(VALID).then(
        asked(HoldFunds(transfer_id="t-1", account="ravi", amount=Decimal(4999), available=Decimal(20000)))
    )
    spec.when(HELD).then(asked(execute(4999)))
    spec.when(replied(execute_transfer, EXECUTED)).then(published(completed("auto")), ended("completed"))


@pytest.mark.parametrize(("amount", "asks"), [(4999, False), (5000, True)])
def test_from_the_threshold_on_a_manager_is_asked(amount: int, asks: bool) -> None:
    spec = given(transfer, request(amount), VALID).when(HELD)
    shown = TransferToApprove(
        transfer_id="t-1",
        session_id="s-1",
        requested_by="ravi",
        from_account="ravi",
        to_account="kiran",
        recipient="Kiran",
        amount=Decimal(amount),
        currency="EUR",
        threshold=Decimal(5000),
    )
    spec.then(opened(manager_approval, shown) if asks else asked(execute(amount)))


def test_the_threshold_is_a_setting_and_is_recorded_with_the_transfer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_TRANSFER_THRESHOLD", "100")
    transfer_settings.cache_clear()
    try:
        spec = given(transfer, request(100), VALID)
    finally:
        monkeypatch.undo()
        transfer_settings.cache_clear()
    spec.when(HELD).then(opened(manager_approval))
    assert next(r.data["value"] for r in spec.records if r.type == "value.computed")["threshold"] == "100"


def test_an_approved_transfer_is_executed_and_says_by_whom() -> None:
    spec = given(transfer, request(), VALID, HELD)
    spec.when(decided(manager_approval, APPROVE, by="maria")).then(asked(execute()))
    spec.when(replied(execute_transfer, EXECUTED)).then(published(completed("maria")), ended("completed"))


def test_a_rejected_transfer_releases_the_funds() -> None:
    given(transfer, request(), VALID, HELD).when(decided(manager_approval, REJECT, by="maria")).then(
        asked(RELEASE), published(failed(REJECTED)), compensated(REJECTED)
    )


def test_an_undecided_transfer_expires_after_a_day() -> None:
    spec = given(transfer, request(), VALID, HELD)
    spec.when(elapsed(hours=23)).then_nothing()
    spec.when(elapsed(hours=1)).then(asked(RELEASE), published(failed(EXPIRED)), compensated(EXPIRED))


def test_nobody_approves_their_own_transfer() -> None:
    spec = given(transfer, request(), VALID, HELD)
    spec.when(decided(manager_approval, APPROVE, by="ravi")).then(denied("excluded"))


def test_nobody_approves_twice() -> None:
    spec = given(transfer, request(), VALID, HELD, decided(manager_approval, APPROVE, by="maria"))
    spec.when(decided(manager_approval, APPROVE, by="maria")).then(denied("already_decided"))


def test_insufficient_funds_end_it_before_anything_was_held() -> None:
    reason = "insufficient_funds: 120 EUR is there"
    given(transfer, request()).when(refused(validate_transfer, reason)).then(
        published(failed(reason)), compensated(reason)
    )


def test_the_banks_no_releases_the_funds() -> None:
    spec = given(transfer, request(4000), VALID, HELD)
    spec.when(refused(execute_transfer, "insufficient_funds")).then(
        asked(RELEASE), published(failed("insufficient_funds")), compensated("insufficient_funds")
    )


def test_a_customer_may_withdraw_while_the_approver_thinks() -> None:
    spec = given(transfer, request(), VALID, HELD)
    spec.when(arrived(TransferWithdrawn(transfer_id="t-1"))).then(
        asked(RELEASE), published(failed(WITHDRAWN)), compensated(WITHDRAWN)
    )
    spec.when(decided(manager_approval, APPROVE, by="maria")).then(denied("withdrawn"))


def test_a_withdrawal_after_the_approval_changes_nothing() -> None:
    spec = given(transfer, request(), VALID, HELD, decided(manager_approval, APPROVE, by="maria"))
    spec.when(arrived(TransferWithdrawn(transfer_id="t-1"))).then_nothing()
    spec.when(replied(execute_transfer, EXECUTED)).then(published(completed("maria")), ended("completed"))


def test_a_hold_without_answer_is_settled_before_anything_is_undone() -> None:
    spec = given(transfer, request(), VALID).when(unanswered(hold_funds)).then(settling(hold_funds))
    reason = "no answer in time"
    spec.when(settled_done(hold_funds, FundsHeld(hold_id="H-1"))).then(
        asked(RELEASE), published(failed(reason)), compensated(reason)
    )


def test_a_bank_that_does_not_answer_is_asked_what_happened_not_asked_again() -> None:
    """The pivot: only a definite answer moves the saga, in either direction."""
    spec = (
        given(transfer, request(100), VALID, HELD).when(unanswered(execute_transfer)).then(settling(execute_transfer))
    )
    spec.when(settled_done(execute_transfer, EXECUTED)).then(published(completed("auto")), ended("completed"))
    spec = given(transfer, request(100), VALID, HELD, unanswered(execute_transfer))
    spec.when(settled_not_done(execute_transfer))
    assert spec.outputs[0].what == "transfers.ReleaseFunds"


def test_a_bank_that_cannot_be_asked_leaves_it_to_people() -> None:
    spec = given(transfer, request(100), VALID, HELD).when(unanswered(execute_transfer), unanswered(execute_transfer))
    assert spec.outputs[-1].kind == stuck(execute_transfer).kind


@pytest.mark.parametrize("amount", [10, 6000])
def test_whatever_happens_a_transfer_ends_or_waits_for_a_person(amount: int) -> None:
    """Random refusals, silences, duplicates, votes, withdrawals and crashes, checked against the invariants."""
    assert set(explore(transfer, request(amount), seeds=60).ended) == {"completed", "compensated"}
