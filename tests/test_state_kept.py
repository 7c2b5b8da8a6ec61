"""A test that leaves something behind is the one that fails."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tests.state_kept import state_kept


def _imported(directory: Path) -> None:
    (directory / "made_here.py").write_text("")
    sys.path.insert(0, str(directory))
    __import__("made_here")
    sys.path.remove(str(directory))


LEAKS: dict[str, Callable[[Path], object]] = {
    "environment: LEFT_BEHIND": lambda directory: os.environ.__setitem__("LEFT_BEHIND", "x"),
    "directory": os.chdir,
    "sys.path": lambda directory: sys.path.append(str(directory)),
    "signals: SIGHUP": lambda directory: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    "sys.modules: made_up": lambda directory: sys.modules.__setitem__("made_up", ModuleType("made_up")),
    "sys.modules: made_here": _imported,
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
        for name in ("made_up", "made_here"):
            sys.modules.pop(name, None)


def test_what_is_put_back_is_nobodys_business(tmp_path: Path) -> None:
    """What `monkeypatch` changes, for example."""
    with state_kept(tmp_path), pytest.MonkeyPatch.context() as changed:
        changed.setenv("LEFT_BEHIND", "x")
        changed.chdir(tmp_path)
        changed.syspath_prepend(str(tmp_path))
