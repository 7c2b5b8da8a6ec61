"""Rule 24: forms of an author's own, with outcomes and fields."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any

import pytest

from orchestrator import Decision, Event, Form, Key, Role, Saga, end, publish, task
from orchestrator.kernel.api import advance
from orchestrator.kernel.inputs import Vote
from orchestrator.testing import (
    Spec,
    asked,
    decided,
    ended,
    given,
    published,
)
from tests.kernel.trips import (
    HOLD_CAR,
    NOTE,
    WANTED,
    TripToApprove,
    TripWanted,
    hold_car,
    note,
)

DAY = timedelta(hours=24)


def hash_of(spec: Spec) -> str:
    """The hash of what is shown now."""
    [row] = spec.world.main.tasks.values()
    return str(row.data["hash"])


class Verdicts(Enum):
    """The outcomes of a form of our own."""

    PAY = "pay"
    SPLIT = "split"
    DENY = "deny"


class Judgement(Form[Verdicts]):
    """A form with a field of its own."""

    share: int = 100


@task(to=Role("desk"), within=DAY, answer=Judgement, rejects=[Verdicts.DENY])
def judge(wanted: TripWanted) -> TripToApprove:
    return TripToApprove(trip=wanted.trip)


class Split(Event):
    """What was decided."""

    trip: Key[str]
    share: int


def split(wanted: TripWanted, decision: Decision[Judgement]) -> Split:
    return Split(trip=wanted.trip, share=decision.answer.share)


JUDGED = Saga(
    "forms_judged",
    version=1,
    starts_on=TripWanted,
    flow=[judge.on(Verdicts.PAY).on(Verdicts.SPLIT, publish(split)).on(Verdicts.DENY, end("denied")), hold_car],
)


def test_each_outcome_of_a_form_takes_its_own_path() -> None:
    """authoring: answer=Form."""
    given(JUDGED, WANTED).when(decided(judge, Verdicts.PAY, by="max")).then(asked(HOLD_CAR))
    given(JUDGED, WANTED).when(decided(judge, Judgement(outcome=Verdicts.SPLIT, share=30), by="max")).then(
        published(Split(trip="t-1", share=30)), asked(HOLD_CAR)
    )
    given(JUDGED, WANTED).when(decided(judge, Verdicts.DENY, by="max")).then(ended("denied"))


@task(to=Role("desk"), within=DAY, answer=Judgement, votes=2, rejects=[Verdicts.DENY])
def judge_together(wanted: TripWanted) -> TripToApprove:
    return TripToApprove(trip=wanted.trip)


def test_votes_count_only_for_the_outcome_that_they_name() -> None:
    """authoring: n distinct people agree."""
    paths = judge_together.on(Verdicts.PAY).on(Verdicts.SPLIT, note).on(Verdicts.DENY, end("denied"))
    saga = Saga("forms_agree", version=1, starts_on=TripWanted, flow=[paths, hold_car])
    spec = given(saga, WANTED).when(decided(judge_together, Verdicts.PAY, by="max")).then_nothing()
    spec.when(decided(judge_together, Verdicts.SPLIT, by="mia")).then_nothing()
    spec.when(decided(judge_together, Verdicts.SPLIT, by="moe")).then(asked(NOTE))


@pytest.mark.parametrize("answer", [{"outcome": "maybe"}, {}, "approve", None, {"outcome": "split", "share": "much"}])
def test_an_answer_that_does_not_fit_its_form_is_refused(answer: Any) -> None:
    """Rule 24: and nothing is recorded."""
    spec = given(JUDGED, WANTED)
    vote = Vote("judge", "max", ("desk",), answer, hash_of(spec), spec.world.clock)
    turn = advance(JUDGED.program, spec.state, vote, spec.world.clock)
    assert turn.refusal is not None
    assert turn.refusal.code == "invalid"
    assert turn.records == []
