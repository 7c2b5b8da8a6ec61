"""What a page promises before the button is what happens after it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from orchestrator.api.details import task_view
from orchestrator.api.times import instant
from orchestrator.api.views import Actor, SagaView, TaskView
from orchestrator.kernel.api import Turn, advance
from orchestrator.kernel.inputs import Answer, Start, Vote
from orchestrator.kernel.state import State
from orchestrator.pages.consequences import Consequence
from orchestrator.pages.previews import Case, case_of, consequences
from tests.browser.grants import DESK, grant

T0 = 1_800_000_000_000_000
MARIA = Actor("maria", ("manager", "committee"), capacities=frozenset({"approver"}))


def at_its_task(mood: str = "") -> tuple[State, TaskView]:
    """A grant that asks for its decision."""
    data = {
        "grant_id": "G-1", "requester": "ravi", "beneficiary": "kiran", "amount": "6000.00", "currency": "INR",
        "purpose": "fees", "mood": mood,
    }  # fmt: skip
    turn = advance(grant.program, None, Start("s-1", "main", "G-1", "grants.GrantRequested", data), T0)
    answer = Answer("do", "reserve", 1, 1, "ok", {"reservation": "R-7"}, participant=DESK)
    state = advance(grant.program, turn.state, answer, T0 + 1).state
    (activity,) = [name for name, found in state.activities.items() if found.kind == "task"]
    saga = SagaView("s-1", "grant", 1, "G-1", "forward", "", "", 0, instant(T0), instant(T0), state.version)
    view = task_view(saga, state, activity)
    assert view is not None
    return state, view


def asked(state: State, view: TaskView, **changes: Any) -> dict[str, Consequence]:
    """The consequences by outcome."""
    case = changes.pop("case", case_of(state, None, grant.program))
    found = consequences(case, view, view.activity, MARIA, T0 + 2, **changes)
    return {each.outcome: each for each in found}


def voted(state: State, view: TaskView, outcome: str) -> Turn:
    """What really happens."""
    vote = Vote(view.activity, "maria", MARIA.roles, {"outcome": outcome}, view.subject_hash, T0 + 2)
    turn = advance(grant.program, state, vote, T0 + 2)
    assert turn.refusal is None
    return turn


def test_an_approval_promises_the_very_command_that_is_sent() -> None:
    """With its data, to whom, and that it cannot be undone."""
    state, view = at_its_task()
    promised = asked(state, view)["approve"]
    (sent,) = voted(state, view, "approve").effects.outbox
    (effect,) = promised.effects
    assert effect.irrevocable
    assert promised.irrevocable
    assert {fact.path[1:]: str(fact.value) for fact in effect.facts} == {
        name: value for name, value in sent.body.items() if name != "currency"
    }
    assert effect.text == "Pay grant: asked of grants-desk."
    assert promised.afterwards == ("others are told: grant paid", "it ends: completed")


def test_a_rejection_promises_the_very_undo_plan() -> None:
    """And the reason that the saga will carry."""
    state, view = at_its_task()
    promised = asked(state, view)["reject"]
    turn = voted(state, view, "reject")
    (planned,) = [record.data["plan"] for record in turn.records if record.type == "undo.planned"]
    assert planned == ["reserve"]
    assert [effect.text for effect in promised.effects] == [
        "It turns back: rejected.", "Reserve is undone: unreserve, by grants-desk.",
    ]  # fmt: skip
    assert promised.turns_back
    assert not promised.irrevocable


def test_nobody_deciding_is_told_too() -> None:
    """The way that the definition gives to the time being over."""
    state, view = at_its_task()
    assert asked(state, view)[""].effects[0].text == "It turns back: too late."


def test_the_first_of_two_votes_moves_nothing() -> None:
    """And says how many more it takes; a rejection decides alone."""
    state, view = at_its_task("two")
    found = asked(state, view)
    assert [effect.text for effect in found["approve"].effects] == [
        "Your vote is number 1 of 2. Nothing happens until 1 more agree."
    ]
    assert not found["approve"].irrevocable
    assert found["reject"].turns_back


def test_a_trial_changes_nothing() -> None:
    """The state that was asked is the state that it was."""
    state, view = at_its_task()
    before = repr(state)
    asked(state, view)
    assert repr(state) == before


def test_without_installed_code_the_definition_speaks() -> None:
    """An old version that nobody has the code of any more: what is stored says what follows, and that it only reads."""
    state, view = at_its_task()
    case: Case = case_of(state, grant.graph.data, None)
    found = asked(state, view, case=case)
    assert not found["approve"].exact
    assert found["approve"].irrevocable
    assert [effect.text for effect in found["approve"].effects] == [
        "Pay grant, by grants-desk.", "Others are told: grant paid.", "It ends: completed.",
    ]  # fmt: skip
    assert found["reject"].turns_back
    assert asked(state, view, case=Case(state, None, None)) == {}


def test_a_form_that_must_be_filled_in_is_tried_once_it_is() -> None:
    """Before, the definition speaks; with the answer, the kernel."""
    state, view = at_its_task("form")
    assert not asked(state, view)["full_grant"].exact
    answer = {"outcome": "full_grant", "rationale": "all in order"}
    assert asked(state, view, answer=answer)["full_grant"].exact


def test_who_may_not_vote_is_told_what_a_vote_would_do() -> None:
    """Whoever asked sees what others decide on."""
    state, view = at_its_task()
    found = consequences(case_of(state, None, grant.program), view, view.activity, Actor("ravi"), T0 + 2)
    assert found[0].irrevocable


@pytest.mark.parametrize("mood", ["", "two", "form", "slow"])
def test_trials_are_quick(mood: str) -> None:
    """A page is not kept waiting by them."""
    state, view = at_its_task(mood)
    begun = time.perf_counter()
    asked(state, view)
    assert time.perf_counter() - begun < 10
