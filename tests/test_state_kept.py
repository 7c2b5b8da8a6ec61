"""A test that leaves something behind is the one that fails."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.state_kept import state_kept

LEAKS: dict[str, Callable[[Path], object]] = {
    "environment: LEFT_BEHIND": lambda directory: os.environ.__setitem__("LEFT_BEHIND", "x"),
    "directory": os.chdir,
    "sys.path": lambda directory: sys.path.append(str(directory)),
    # A handler that nobody can have set before: whoever starts the tests may have them ignore it.
    "signals: SIGHUP": lambda directory: signal.signal(signal.SIGHUP, lambda *_: None),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_what_a_test_leaves_is_named(leak: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With enough to find it."""
    monkeypatch.setenv("LEFT_BEHIND", "before")
    monkeypatch.chdir(os.getcwd())
    monkeypatch.setattr(sys, "path", list(sys.path))
    handler = signal.getsignal(signal.SIGHUP)
    try:
        with pytest.raises(AssertionError, match=leak), state_kept(tmp_path):
            LEAKS[leak](tmp_path)
    finally:
        signal.signal(signal.SIGHUP, handler)


def test_what_is_put_back_is_nobodys_business(tmp_path: Path) -> None:
    """What `monkeypatch` changes, for example."""
    with state_kept(tmp_path), pytest.MonkeyPatch.context() as changed:
        changed.setenv("LEFT_BEHIND", "x")
        changed.chdir(tmp_path)
        changed.syspath_prepend(str(tmp_path))


def test_modules_made_for_a_test_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python or the product load when they first need it stays."""
    (tmp_path / "made_here.py").write_text("")
    (tmp_path.parent / "made_elsewhere.py").write_text("")
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path.parent), *sys.path])
    with state_kept(tmp_path):
        sys.modules["made_up"] = ModuleType("made_up")
        importlib.import_module("made_here")
        importlib.import_module("made_elsewhere")
    assert {"made_up", "made_here", "made_elsewhere"} & sys.modules.keys() == {"made_elsewhere"}
