"""Hypothesis draws the flow and the schedule; what fails is made small by it and kept in its database."""

from __future__ import annotations

import os
from random import Random

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from orchestrator.testing.exploring import run_schedule
from tests.kernel.flows import THEMES, scenario

SETTINGS = settings(
    max_examples=150,
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


@SETTINGS
@given(
    flow=st.integers(min_value=0, max_value=2**32),
    theme=st.sampled_from(sorted(set(THEMES))),
    seeds=st.lists(st.integers(min_value=0, max_value=2**32), min_size=1, max_size=4, unique=True),
)
def test_any_legal_flow_ends_or_is_visibly_stuck(flow: int, theme: str, seeds: list[int]) -> None:
    """Every invariant is checked after every turn (orchestrator/testing/exploring)."""
    drawn = scenario(Random(flow), theme)
    assume(drawn is not None)
    assert drawn is not None
    for seed in seeds:
        world = run_schedule(drawn, seed)
        assert all(state.ended for state in world.states.values())
