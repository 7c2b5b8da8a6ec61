"""Schedules notice: a third of the planted bugs here, all of them with `python -m tests.simulation.mutations`."""

from __future__ import annotations

import pytest

from tests.simulation.mutations.running import BANK, judge_all

QUICK = (
    "publish before commit", "an unknown commit is believed", "the inbox is not asked",
    "a cached state of another version counts", "an early check looks without the lock",
    "an event that nobody waits for is not kept", "timers are cleared outside the transaction",
    "marked as sent before the broker has it", "a refused message is given up, and its saga not told",
    "positions are one too far", "positions are stored on fetch",
    "catch and continue: a batch that was not stored is dropped", "one partition in two lanes",
    "timers do not wait for intake", "an event is decided from memory, without its keys",
)  # fmt: skip
SCHEDULES = 60


def test_every_planted_bug_fits_the_code_and_has_its_own_name() -> None:
    for planted in BANK:
        assert planted.sources()
    assert len({planted.name for planted in BANK}) == len(BANK) >= 38
    assert set(QUICK) <= {planted.name for planted in BANK}
    assert len(QUICK) * 3 >= len(BANK)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_third_of_the_planted_bugs_is_noticed() -> None:
    chosen = [planted for planted in BANK if planted.name in QUICK]
    survived = [verdict.name for verdict in judge_all(chosen, most=SCHEDULES) if not verdict.killed]
    assert not survived
