"""The dispute saga when somebody is late or away: people, the model, everything; the clock is in the test's hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from events.disputes import (
    ClassifyCase,
    Priority,
    Ruling,
)
from orchestrator.testing import (
    asked,
    cancelled,
    decided,
    denied,
    elapsed,
    entered,
    errored,
    given,
    opened,
    reminded,
    replied,
    unanswered,
)
from orchestrator.testing.explore import explore
from sagas.disputes.definition import DisputeState, branch_ruling, dispute, manager_decision, senior_review
from sagas.disputes.settings import dispute_settings
from sagas.disputes.steps import (
    assign_manager,
    check_finding,
    check_ruling,
    classify_by_rules,
    classify_case,
)
from tests.sagas.complaints import (
    ACKNOWLEDGED,
    ASSIGN,
    CLASSIFIED,
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
    ruling,
    shown,
    with_branch,
    with_manager,
)

# --- nobody takes it on


def test_a_case_that_nobody_takes_on_goes_to_the_branch_manager_after_a_day() -> None:
    """Exactly a day, and the acknowledgement is too late then."""
    spec = assigned().when(elapsed(hours=23, minutes=59)).then_nothing()
    spec.when(elapsed(minutes=1)).then(
        entered(DisputeState.WITH_BRANCH),
        opened(branch_ruling, shown("the relationship manager did not acknowledge the case in time")),
    )
    spec.when(ACKNOWLEDGED).then_nothing()
    spec.when(decided(branch_ruling, ruling(), by="rosa")).then(denied("not_eligible"))


def test_the_branch_managers_ruling_is_checked_and_closes_the_case() -> None:
    """As a finding's."""
    spec = with_branch().when(decided(branch_ruling, ruling(Ruling.PARTIAL_REFUND, 20), by="bruno"))
    spec.then(asked(check("Partial Refund", "850"))).when(replied(check_ruling, PASSED))
    closes(spec, "Partial Refund", "bruno", "850")


def test_a_ruling_that_fails_the_check_is_reviewed() -> None:
    """The branch manager has no second attempt."""
    spec = with_branch(decided(branch_ruling, ruling(), by="bruno")).when(replied(check_ruling, FAILED))
    line = f"Resolved: {RATIONALE} | compliance check failed: Name what you looked at."
    spec.then(entered(DisputeState.IN_REVIEW), opened(senior_review, shown(line)))
    refers(spec.when(elapsed(hours=72)), "nobody reviewed the case in time")


def test_a_branch_manager_may_refer_the_case() -> None:
    """At once, without a check."""
    spec = with_branch().when(decided(branch_ruling, ruling(Ruling.REFER), by="bruno"))
    refers(spec, "the branch manager refers the case to the Ombudsman")


def test_after_three_days_of_silence_the_case_refers_itself_to_the_ombudsman() -> None:
    """A day for the manager, two for the branch manager: status, notification, letter, event."""
    spec = with_branch().when(elapsed(hours=24)).then(reminded(branch_ruling))
    spec.when(elapsed(hours=23)).then_nothing()
    refers(spec.when(elapsed(hours=1)), "neither the relationship manager nor the branch manager acted in time")


def test_after_a_week_of_downtime_people_still_get_their_time() -> None:
    """The acknowledgement is over, and the branch manager's two days begin when the task is opened."""
    spec = assigned().when(elapsed(hours=24))
    spec.when(elapsed(hours=47)).then(reminded(branch_ruling))
    spec.when(decided(branch_ruling, ruling(), by="bruno")).then(asked(check()))


# --- the model is away


def test_a_model_that_does_not_answer_delays_no_case() -> None:
    """Four attempts, and the rules classify in its place."""
    spec = given(dispute, request())
    for _ in range(3):
        spec.when(errored(classify_case, "ModelError")).then_nothing()
        spec.when(elapsed(seconds=15))
    spec.when(errored(classify_case, "ModelError")).then(
        asked(
            ClassifyCase(
                case_summary="The merchant took the card payment twice.",
                dispute_amount=Decimal(4250),
                priority=Priority.HIGH,
                by_rules=True,
            )
        )
    )
    spec.when(replied(classify_by_rules, CLASSIFIED)).then(asked(assign_manager(request(), CLASSIFIED)))


@pytest.mark.parametrize(
    ("start", "task", "step", "form", "by"),
    [
        (with_manager, manager_decision, check_finding, finding(), "rosa"),
        (with_branch, branch_ruling, check_ruling, ruling(), "bruno"),
    ],
)
def test_what_the_model_cannot_check_a_person_reads(start: Any, task: Any, step: Any, form: Any, by: str) -> None:
    """An unchecked rationale is never taken for one that has passed."""
    spec = start(decided(task, form, by=by)).when(unanswered(step))
    entry, review_task = spec.outputs[-2:]
    assert entered(DisputeState.IN_REVIEW).fits(entry)
    assert opened(senior_review, shown(f"Resolved: {RATIONALE} | could not be checked")).fits(review_task)


# --- whatever else


def test_nobody_cancels_a_complaint() -> None:
    """It ends decided or referred."""
    for spec in (assigned(), with_manager(), with_branch(), in_review()):
        spec.when(cancelled("olga", "too much work")).then(denied("cancel_refused"))


def test_urgent_cases_may_have_shorter_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was in force is recorded with the case."""
    monkeypatch.setenv("ORCHESTRATOR_DISPUTE_TIMES", '{"Urgent": {"acknowledge": 4}}')
    dispute_settings.cache_clear()
    try:
        urgent = given(dispute, request(priority=Priority.URGENT), CLASSIFY, ASSIGN)
        plain = given(dispute, request(), CLASSIFY, ASSIGN)
    finally:
        monkeypatch.undo()
        dispute_settings.cache_clear()
    urgent.when(elapsed(hours=4)).then(entered(DisputeState.WITH_BRANCH), opened(branch_ruling))
    plain.when(elapsed(hours=4)).then_nothing()
    recorded = next(record.data["value"] for record in urgent.records if record.type == "value.computed")
    assert recorded == {"acknowledge": 4.0, "branch": 48.0, "finding": 72.0, "review": 72.0}


def test_whatever_happens_a_case_is_closed_or_referred_or_waits_for_a_person() -> None:
    """Random votes, silences, duplicates, acknowledgements and crashes, checked against the invariants."""
    report = explore(dispute, request(), seeds=80)
    assert set(report.ended) == {"completed"}
