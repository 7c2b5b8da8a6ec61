"""The guide to writing a participant is a walked path."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.walked_path import walk

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "write-a-participant.md"


@pytest.mark.timeout(180)
def test_the_guide_to_participants_can_be_walked(tmp_path: Path) -> None:
    """Every file is written and every command ends as the guide says."""
    assert walk(GUIDE, tmp_path) == 1
