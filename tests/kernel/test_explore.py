"""`explore`, as authors use it: a clean saga passes, a wrong kernel is shown with seed and shortest schedule."""

from __future__ import annotations

import pytest

from orchestrator.kernel import turning
from orchestrator.messages.examples import example_of
from orchestrator.testing.explore import ExploredError, explore
from tests.definition import transfers

START = transfers.TransferRequested.from_plain(example_of(transfers.TransferRequested))


def test_a_saga_is_explored_with_one_line() -> None:
    report = explore(transfers.transfer, START, seeds=60)
    assert report.seeds == 60
    assert set(report.ended) == {"completed", "compensated"}


def test_the_same_seeds_end_the_same_way() -> None:
    assert explore(transfers.transfer, START, seeds=20).ended == explore(transfers.transfer, START, seeds=20).ended


def test_a_broken_rule_is_shown_with_its_seed_and_its_shortest_schedule(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that forgets what was done plans nothing: the hold would stay for ever."""
    monkeypatch.setattr(turning, "plan_of", lambda state, prefix="": [])
    with pytest.raises(ExploredError, match=r"must be \['hold_funds.scope/hold_funds'\]") as caught:
        explore(transfers.transfer, START, seeds=200)
    text = str(caught.value)
    assert f"seeds=[{caught.value.seed}]" in text
    assert "saga.started" in text
    assert len(text.splitlines()) < 40
    with pytest.raises(ExploredError):
        explore(transfers.transfer, START, seeds=[caught.value.seed])
