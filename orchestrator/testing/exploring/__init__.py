"""Exploring: one seed, one schedule of a saga through a hostile world, and a checker with no code of the kernel's."""

from orchestrator.testing.exploring.checker import BrokenInvariantError
from orchestrator.testing.exploring.explore import (
    Report,
    Scenario,
    ScheduleError,
    explore_scenario,
    root_id,
    run_plan,
    run_schedule,
)
from orchestrator.testing.exploring.planning import Plan

__all__ = [
    "BrokenInvariantError", "Plan", "Report", "Scenario", "ScheduleError", "explore_scenario", "root_id", "run_plan",
    "run_schedule",
]  # fmt: skip
