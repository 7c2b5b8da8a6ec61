"""The guides are walked paths: what they tell people to type is typed here, in an empty directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.walked_path import walk

ROOT = Path(__file__).parents[2]
WALKED = ["add-a-saga.md"]


@pytest.mark.parametrize("name", WALKED)
def test_a_guide_can_be_walked(name: str, tmp_path: Path) -> None:
    """Every file is written, every command ends as the guide says, every shown output appears."""
    assert walk(ROOT / "docs" / "guides" / name, tmp_path) >= 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("```sh\nfalse\n```\n", "exit 1"),
        ("```sh exit=0\nexit 6\n```\n", "exit 6"),
        ("```sh\necho one\n```\n```text\ntwo\n```\n", "'two' is not in what was printed"),
        ("```sh\nprintf 'a\\nb\\n'\n```\n```text\nb\na\n```\n", "'a' is not in"),
        ("```python\nx = 1\n```\n", "nobody runs this block"),
    ],
)
def test_a_guide_that_is_wrong_is_found_out(text: str, says: str, tmp_path: Path) -> None:
    """The walker itself: a failing command, a missing line, a block that nobody runs."""
    guide = tmp_path / "guide.md"
    guide.write_text(text)
    with pytest.raises(AssertionError, match=says):
        walk(guide, tmp_path)


def test_what_a_guide_exports_is_kept(tmp_path: Path) -> None:
    """Readers type into one shell, so variables live on from block to block."""
    guide = tmp_path / "guide.md"
    guide.write_text(
        "```python shop/x.py\nprint('hello')\n```\n```sh\nexport ORCHESTRATOR_SAGAS=shop\n```\n"
        "```sh\necho $ORCHESTRATOR_SAGAS; python shop/x.py\n```\n```text\nshop\n...\nh...o\n```\n"
    )
    assert walk(guide, tmp_path) == 2
