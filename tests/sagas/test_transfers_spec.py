"""Every path of the transfer saga: what the bank answers, what people decide, and when somebody stops it."""

from __future__ import annotations

from datetime import timedelta
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
    Output,
    Spec,
    answered_late,
    arrived,
    asked,
    cancelled,
    compensated,
    decided,
    denied,
    elapsed,
    ended,
    errored,
    given,
    never_known,
    opened,
    operated,
    published,
    refused,
    replied,
    settled_done,
    settled_not_done,
    settled_refused,
    settling,
    stuck,
    unanswered,
    undo_refused,
    undone,
)
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

VALID = replied(validate_transfer, TransferValidated(to_account="kiran", available=Decimal(20000)))
FUNDS = FundsHeld(hold_id="H-1")
HELD = replied(hold_funds, FUNDS)
DONE = TransferExecuted(reference="B-1")
EXECUTED = replied(execute_transfer, DONE)
RELEASE = ReleaseFunds(hold_id="H-1")
BY_CUSTOMER = arrived(TransferWithdrawn(transfer_id="t-1"))
BY_SERVICE = cancelled("ann", "fraud")
SERVICE = "cancelled by ann: fraud"
SILENCE = "no answer in time"


def request(amount: int) -> TransferRequested:
    """A transfer of ravi's to kiran."""
    return TransferRequested(
        transfer_id="t-1",
        session_id="s-1",
        user_id="ravi",
        from_account="ravi",
        recipient="Kiran",
        amount=Decimal(amount),
    )


def validate(amount: int) -> ValidateTransfer:
    return ValidateTransfer(from_account="ravi", recipient="Kiran", amount=Decimal(amount), currency="EUR")


def hold(amount: int) -> HoldFunds:
    return HoldFunds(transfer_id="t-1", account="ravi", amount=Decimal(amount), available=Decimal(20000))


def execute(amount: int) -> ExecuteTransfer:
    return ExecuteTransfer(
        transfer_id="t-1",
        hold_id="H-1",
        from_account="ravi",
        to_account="kiran",
        amount=Decimal(amount),
        currency="EUR",
    )


def completed(by: str) -> list[Output]:
    """The good end."""
    told = TransferCompleted(transfer_id="t-1", session_id="s-1", reference="B-1", decided_by=by)
    return [published(told), ended("completed")]


def back(reason: str, *, held: bool) -> list[Output]:
    """The other end: the hold is given free if there was one, then the customer is told."""
    told = TransferFailed(transfer_id="t-1", session_id="s-1", reason=reason)
    return [*([asked(RELEASE)] if held else []), published(told), compensated(reason)]


def small() -> Spec:
    """Below the threshold; the bank is asked to execute."""
    return given(transfer, request(100), VALID, HELD)


def large() -> Spec:
    """Above the threshold; a manager is asked."""
    return given(transfer, request(6000), VALID, HELD)


# --- forward


def test_a_small_transfer_goes_straight_through() -> None:
    """validate, hold, execute."""
    spec = given(transfer, request(100)).then(asked(validate(100)))
    spec.when(VALID).then(asked(hold(100)))
    spec.when(HELD).then(asked(execute(100)))
    spec.when(EXECUTED).then(*completed("auto"))


def test_a_large_transfer_waits_for_a_manager() -> None:
    """And the event says who decided."""
    spec = given(transfer, request(6000), VALID).when(HELD)
    spec.then(
        opened(
            manager_approval,
            TransferToApprove(
                transfer_id="t-1",
                session_id="s-1",
                requested_by="ravi",
                from_account="ravi",
                to_account="kiran",
                recipient="Kiran",
                amount=Decimal(6000),
                currency="EUR",
                threshold=Decimal(5000),
            ),
        )
    )
    spec.when(decided(manager_approval, APPROVE, by="maria")).then(asked(execute(6000)))
    spec.when(EXECUTED).then(*completed("maria"))


@pytest.mark.parametrize(("amount", "asks"), [(4999, False), (5000, True), (5001, True)])
def test_the_threshold_itself_needs_an_approval(amount: int, asks: bool) -> None:
    """From the threshold on."""
    spec = given(transfer, request(amount), VALID).when(HELD)
    assert bool(spec.world.main.tasks) is asks


# --- validation: it only reads


def test_a_refused_validation_holds_nothing() -> None:
    """Nothing was done, nothing is taken back."""
    given(transfer, request(100)).when(refused(validate_transfer, "unknown account")).then(
        *back("unknown account", held=False)
    )


def test_a_validation_without_answer_is_given_up_and_never_settled() -> None:
    """It has no effect that could be unknown."""
    given(transfer, request(100)).when(unanswered(validate_transfer)).then(*back(SILENCE, held=False))


@pytest.mark.parametrize(("stop", "reason"), [(BY_CUSTOMER, WITHDRAWN), (BY_SERVICE, SERVICE)])
def test_a_transfer_that_is_stopped_while_it_is_validated_ends_at_once(stop: object, reason: str) -> None:
    """The late answer is ignored."""
    spec = given(transfer, request(100)).when(stop).then(*back(reason, held=False))  # type: ignore[arg-type]
    before = len(spec.records)
    spec.when(answered_late(VALID)).then_nothing()
    assert len(spec.records) == before


# --- the hold


def test_a_refused_hold_ends_it() -> None:
    """Insufficient funds."""
    given(transfer, request(100), VALID).when(refused(hold_funds, "insufficient")).then(
        *back("insufficient", held=False)
    )


def test_a_hold_without_answer_is_settled_whatever_it_turns_out_to_be() -> None:
    """Done, not done, refused, and the answer itself."""
    for answer, held in (
        (settled_done(hold_funds, FUNDS), True),
        (settled_not_done(hold_funds), False),
        (settled_refused(hold_funds), False),
        (HELD, True),
    ):
        spec = given(transfer, request(100), VALID).when(unanswered(hold_funds)).then(settling(hold_funds))
        spec.when(answer).then(*back(SILENCE, held=held))


@pytest.mark.parametrize(("stop", "reason"), [(BY_CUSTOMER, WITHDRAWN), (BY_SERVICE, SERVICE)])
def test_a_transfer_that_is_stopped_while_it_is_held_settles_the_hold(stop: object, reason: str) -> None:
    """The customer's withdrawal and the service's cancel."""
    for answer, held in ((settled_done(hold_funds, FUNDS), True), (settled_not_done(hold_funds), False)):
        spec = given(transfer, request(100), VALID).when(stop).then(settling(hold_funds))  # type: ignore[arg-type]
        spec.when(answer).then(*back(reason, held=held))


def test_a_hold_that_nobody_can_settle_waits_for_two_people() -> None:
    """The participant says never."""
    spec = given(transfer, request(100), VALID).when(BY_CUSTOMER, never_known(hold_funds))
    assert stuck(hold_funds, "never").fits(spec.outputs[-1])
    spec.when(operated("settle", hold_funds, by="ann", outcome="done", data=FUNDS)).then_nothing()
    spec.when(operated("settle", hold_funds, by="bob", outcome="done", data=FUNDS)).then(*back(WITHDRAWN, held=True))


# --- the decision


def test_a_rejection_gives_the_hold_free() -> None:
    """on_reject."""
    large().when(decided(manager_approval, REJECT, by="maria")).then(*back(REJECTED, held=True))


def test_nobody_decides_in_time() -> None:
    """on_timeout, at the hour and not before."""
    spec = large()
    spec.when(elapsed(hours=23, minutes=59)).then_nothing()
    spec.when(elapsed(minutes=1)).then(*back(EXPIRED, held=True))
    spec.when(decided(manager_approval, APPROVE, by="maria")).then(denied("expired"))


@pytest.mark.parametrize(("stop", "reason"), [(BY_CUSTOMER, WITHDRAWN), (BY_SERVICE, SERVICE)])
def test_a_transfer_that_is_stopped_while_the_manager_thinks_withdraws_the_task(stop: object, reason: str) -> None:
    """Nothing is under way, so nothing is settled."""
    spec = large().when(stop).then(*back(reason, held=True))  # type: ignore[arg-type]
    assert spec.world.main.tasks == {}
    spec.when(decided(manager_approval, APPROVE, by="maria")).then(denied("withdrawn"))


def test_who_may_decide() -> None:
    """A manager, not the customer, on what was seen, once."""
    spec = large()
    spec.when(decided(manager_approval, APPROVE, by="ravi")).then(denied("excluded"))
    spec.when(decided(manager_approval, APPROVE, by="eve", roles=("clerk",))).then(denied("not_eligible"))
    spec.when(decided(manager_approval, APPROVE, by="maria", seen="")).then(denied("subject_missing"))
    spec.when(decided(manager_approval, APPROVE, by="maria", seen="0" * 64)).then(denied("subject_changed"))
    spec.when(decided(manager_approval, APPROVE, by="maria")).then(asked(execute(6000)))
    spec.when(decided(manager_approval, REJECT, by="mark")).then(denied("already_decided"))


# --- the pivot: the bank moves the money


def test_after_the_bank_was_asked_the_customer_is_too_late() -> None:
    """The scope has been left."""
    small().when(BY_CUSTOMER).then_nothing().when(EXECUTED).then(*completed("auto"))


def test_the_banks_no_gives_the_hold_free() -> None:
    """The pivot had not passed."""
    small().when(refused(execute_transfer, "blocked")).then(*back("blocked", held=True))


@pytest.mark.parametrize("done", [True, False])
def test_a_cancel_while_the_bank_is_asked_lets_the_bank_decide(done: bool) -> None:
    """Rule 16b."""
    spec = small().when(BY_SERVICE).then(settling(execute_transfer))
    if done:
        spec.when(settled_done(execute_transfer, DONE)).then(*completed("auto"))
    else:
        spec.when(settled_not_done(execute_transfer)).then(*back(SERVICE, held=True))


def test_a_bank_that_errs_is_asked_again_under_the_same_key() -> None:
    """Ten attempts, one key: money moves once."""
    spec = small()
    for attempt in range(9):
        pause = min(70, 0.6 * 2**attempt)  # seconds, a little more than the policy's, jitter included
        spec.when(errored(execute_transfer, "503"), elapsed(seconds=pause)).then_nothing()
    spec.when(errored(execute_transfer, "503")).then(settling(execute_transfer))
    asked_ = [sent for sent in spec.sent if sent.type == ExecuteTransfer.wire_name]
    assert {sent.attributes["idempotencykey"] for sent in asked_[:-1]} == {asked_[-1].attributes["idempotencykey"]}
    assert [sent.kind for sent in asked_] == ["do"] * 10 + ["fence"]


def test_a_bank_that_never_answers_leaves_the_money_held_until_people_know() -> None:
    """Neither executed nor released by guessing."""
    spec = small().when(unanswered(execute_transfer), unanswered(execute_transfer))
    assert stuck(execute_transfer, "unknown").fits(spec.outputs[-1])
    spec.when(elapsed(days=30)).then_nothing()
    spec.when(operated("retry", execute_transfer)).then(settling(execute_transfer))
    spec.when(settled_not_done(execute_transfer)).then(
        *back("gave up after 10 attempts; settled as not done", held=True)
    )


def test_what_was_executed_is_not_taken_back() -> None:
    """Past the pivot."""
    spec = small().when(EXECUTED)
    assert spec.undo_plan() == []
    spec.when(BY_SERVICE).then(denied("ended"))
    spec.when(answered_late(refused(execute_transfer))).then_nothing()
    assert spec.records[-1].type == "reply.contradicted"


# --- on the way back


def test_a_release_that_is_refused_waits_for_a_person() -> None:
    """The customer is told only when the hold is free."""
    spec = given(transfer, request(6000), VALID, HELD, answer_undos=False)
    spec.when(decided(manager_approval, REJECT, by="maria")).then(asked(RELEASE))
    spec.when(undo_refused(hold_funds, "locked")).then(stuck(hold_funds, "refused"))
    spec.when(operated("retry", hold_funds)).then(asked(RELEASE))
    spec.when(undone(hold_funds)).then(*back(REJECTED, held=False))


def test_a_withdrawal_just_before_the_request_is_taken_into_account() -> None:
    """Events of one key on two topics may change places."""
    early = given(transfer, request(100), VALID).when(BY_CUSTOMER).then(settling(hold_funds))
    early.when(settled_not_done(hold_funds)).then(*back(WITHDRAWN, held=False))
    before = arrived(TransferWithdrawn(transfer_id="t-1"), ago=timedelta(minutes=5))
    given(transfer, request(100)).when(before).then(*back(WITHDRAWN, held=False))
