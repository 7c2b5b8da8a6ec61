"""Makes a schedule that fails smaller: fewer faults first, then fewer inputs. What stays fails by itself."""

from __future__ import annotations

from tests.simulation.plan import Plan
from tests.simulation.schedule import ScheduleError, run_seed

TRIES_MAX = 150


def shrink(seed: int) -> str:
    """The smallest failing schedule found, as text."""
    plan = Plan.of(seed)
    error = failure(seed, plan)
    if error is None:
        return f"seed {seed} does not fail by itself"
    tries = 0
    smaller = True
    while smaller and tries < TRIES_MAX:
        smaller = False
        for candidate in plan.smaller():
            tries += 1
            found = failure(seed, candidate)
            if found is not None:
                plan, error, smaller = candidate, found, True
                break
    return str(error)


def failure(seed: int, plan: Plan) -> ScheduleError | None:
    """How this plan fails, if it does."""
    try:
        run_seed(seed, plan)
    except ScheduleError as error:
        return error
    return None
