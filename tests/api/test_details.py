"""One saga in full, where its state is newer than its summary: what is said is of one moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from orchestrator.api.details import detail_of
from orchestrator.api.views import SagaView
from orchestrator.kernel.state import Activity, State

THEN = datetime(2026, 11, 21, tzinfo=UTC)
SUMMARY = SagaView(
    saga_id="s-1",
    name="dispute",
    version=1,
    business_key="DSP1",
    phase="forward",
    outcome="",
    waiting_for="step tell_of_the_end",
    stuck=0,
    started_at=THEN,
    updated_at=THEN,
    record=7,
)


def test_a_saga_that_ended_between_the_two_readings_has_its_outcome() -> None:
    """It is over, referred, and waits for nothing: not over with the outcome of a moment before."""
    state = State()
    state.phase, state.outcome, state.version = "completed", "referred", 9
    found = detail_of(SUMMARY, state, "").saga
    assert (found.phase, found.outcome, found.waiting_for, found.record) == ("completed", "referred", "", 9)


def test_a_saga_that_went_on_between_the_two_readings_waits_for_what_it_waits_for_now() -> None:
    """The step is done, a person is asked."""
    state = State()
    state.phase, state.version = "forward", 9
    state.activities["review"] = Activity("task", "open", 9)
    found = detail_of(replace(SUMMARY, waiting_for="step check"), state, "").saga
    assert (found.phase, found.waiting_for) == ("forward", "task review")
