"""Exploring: one seed, one schedule of a saga through a hostile world, with a checker that shares no code with the kernel."""

from orchestrator.testing.exploring.checker import BrokenInvariantError
from orchestrator.testing.exploring.explore import Report, Scenario, ScheduleError, explore_scenario, root_id, run_schedule

__all__ = [
    "BrokenInvariantError", "Report", "Scenario", "ScheduleError", "explore_scenario", "root_id", "run_schedule",
]  # fmt: skip
