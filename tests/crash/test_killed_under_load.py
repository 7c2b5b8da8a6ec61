"""Every process of the product is killed again and again while people use it, and the database and the broker as well.

Here for a minute and a half; `python -m tests.crash.nemesis` does it for as long as one likes, with the whole menu.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.crash.nemesis import Plan, run

KILLS = 15  # on each broker: at least two of each of the six processes
SHARE_MIN = 0.15  # how much a machine gets done while it is stormed is not what decides here; the proof wants a half

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("broker", ["postgres", "kafka"])
async def test_whatever_is_killed_everything_ends_once_and_the_books_balance(
    broker: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """V1, V2, V4, V6 to V9, V17, V20, V23, V27, V30 and V31 on the shipped processes, under load.

    A run in which a planned fault did not happen, or in which hardly anything of what was offered succeeded, fails too.
    """
    faults = ["kill"] * KILLS + ["postgres crash", "sessions cut", "commit cut", "commit cut", "freeze"]
    if broker == "kafka":
        request.getfixturevalue("kafka")  # one that may be killed is made below; this skips where none can be had
        faults.append("broker kill")
    plan = Plan(
        broker,
        KILLS,
        0,
        seed=20260101,
        cycle=tuple(faults),
        pause_seconds=0.5,
        rate=8,
        forked=True,
        share_min=SHARE_MIN,
    )
    figures = await run(plan, tmp_path)
    assert figures["ok"], json.dumps(figures, indent=2)
