"""What belongs to a whole process: the next test of it, in whatever order, finds it as the one before did.

Rules of this file
- A test that changes something here says so with `monkeypatch`, or puts it back; the one that does not fails itself,
  and not some other test that happens to come after it on one machine and not on another.
- Modules that were only made for a test are state too: the next one of that name would not be looked for. They are
  forgotten here.
"""

from __future__ import annotations

import decimal
import locale
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)  # SIGALRM is the runner's: its limit of time
_RUNNER = "PYTEST_"  # variables with which the runner of tests speaks to itself


@contextmanager
def state_kept(temporary: Path) -> Iterator[None]:
    """Raises AssertionError with what is no longer as it was. `temporary`: below it lie the tests' own directories."""
    before, modules = _state(), set(sys.modules)
    yield
    if len(sys.modules) != len(modules):
        for name in [name for name in sys.modules.keys() - modules if _made_for_a_test(sys.modules[name], temporary)]:
            del sys.modules[name]
    after = _state()
    changed = [f"{name}: {_difference(was, after[name])}" for name, was in before.items() if after[name] != was]
    assert not changed, "left to the next test: " + "; ".join(changed)


def _state() -> dict[str, object]:
    return {
        "environment": {name: text for name, text in os.environ.items() if not name.startswith(_RUNNER)},
        "directory": os.getcwd(),
        "sys.path": list(sys.path),
        "sys.argv": list(sys.argv),
        "signals": {number.name: signal.getsignal(number) for number in _SIGNALS},
        "locale": locale.setlocale(locale.LC_ALL),
        "time zone": time.tzname,
        "decimal precision": decimal.getcontext().prec,
        "recursion limit": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
        "socket time-out": socket.getdefaulttimeout(),
    }


def _difference(was: object, now: object) -> str:
    if isinstance(was, dict) and isinstance(now, dict):
        return ", ".join(sorted(str(name) for name in was.keys() | now.keys() if was.get(name) != now.get(name)))
    return f"{was!r} became {now!r}"


def _made_for_a_test(module: ModuleType, temporary: Path) -> bool:
    """It has no file, and nobody could import it again, or its file lies in a directory of one test."""
    spec = getattr(module, "__spec__", None)
    if spec is None:
        return getattr(module, "__file__", None) is None
    return spec.origin is not None and Path(spec.origin).is_relative_to(temporary)
