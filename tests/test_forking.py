"""A forked program is told apart from one that a shell started by nothing that a test looks at."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests import forking

SHOW = """
import os, sys
print(sys.argv[1:], os.getcwd(), os.environ["SHOWN"], __name__, "tests" in sys.modules, sys.stdin.read(), sep="|")
print("said on the side", file=sys.stderr)
sys.exit(7)
"""


def test_a_forked_program_sees_and_says_what_a_started_one_does(tmp_path: Path) -> None:
    """Arguments, directory, environment, streams, exit code, and modules of its own directory only."""
    (tmp_path / "shown.py").write_text(SHOW)
    variables = {**os.environ, "SHOWN": "yes"}
    forked = forking.run("shown", "a", "b c", env=variables, cwd=tmp_path)
    command = [sys.executable, "-m", "shown", "a", "b c"]
    started = subprocess.run(
        command, env=variables, cwd=tmp_path, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert started.returncode == 7
    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)


def test_a_forked_program_that_fails_ends_as_python_does(tmp_path: Path) -> None:
    """A bug in what a test starts is seen."""
    (tmp_path / "broken.py").write_text("raise ZeroDivisionError('a bug')")
    done = forking.run("broken", cwd=tmp_path)
    assert (done.returncode, "ZeroDivisionError: a bug" in done.stderr) == (1, True)


def test_a_forked_program_is_killed_and_leaves_with_who_asked_for_it(tmp_path: Path) -> None:
    """Also when the tests' process forgets it: its line is gone then."""
    (tmp_path / "sleeping.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(600)")
    for forgotten in (False, True):
        read, write = os.pipe()
        with os.fdopen(read, "rb") as out:
            program = forking.start("sleeping", stdout=write, cwd=tmp_path)
            os.close(write)
            assert out.readline() == b"up\n"
            assert program.poll() is None
            if forgotten:
                program._line.close()
            else:
                program.kill()
                assert program.wait(60) == -signal.SIGKILL
            assert out.read() == b""  # nobody holds the other end any more


async def test_a_forked_program_is_waited_for_beside_the_event_loop(tmp_path: Path) -> None:
    """By several at once; what it printed before it was told to end can still be read."""
    (tmp_path / "sleeping.py").write_text("import os, time\nos.write(1, b'up\\nlast\\n')\ntime.sleep(600)")
    program = await forking.started("sleeping", cwd=tmp_path)
    assert await program.stdout.readline() == b"up\n"
    waiting = [asyncio.create_task(program.wait()) for _ in range(2)]
    assert program.returncode is None
    program.terminate()
    assert await asyncio.gather(*waiting) == [-signal.SIGTERM] * 2
    assert await program.stdout.read() == b"last\n"
    program.kill()  # does nothing any more
