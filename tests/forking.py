"""Programs of the product without the second that importing it takes: forked from a process that has it imported.

Rules of this file
- What runs is `python -m MODULE ARGUMENTS` in a process of its own, with its own environment, directory, streams, exit
  code and signals. Only the start is saved: what the module imports is there already.
- The process that is forked from has one thread and runs nothing: it imports third parties and the product, never sagas
  or tests, and waits. It lives as long as the tests' process, and takes what it started along.
- Forks share one hash seed. Where two processes must differ in it, or where the start itself is looked at, a test
  starts Python as a shell does.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
IMPORTED = (
    "orchestrator.cli.main", "orchestrator.api.app", "orchestrator.runtime.app", "orchestrator.participants.worker",
    "orchestrator.tracing.wiring", "aiokafka", "asyncpg", "cryptography.x509", "httpx2", "uvicorn",
)  # fmt: skip
_REQUEST_BYTES_MAX = 1 << 20
_NUMBER = struct.Struct("<i")
_WAITING_MAX = 64
_LOOK_SECONDS = 0.01
_LOOKS_MAX = 100


class Forked:
    """A running program, like subprocess.Popen. Nothing ends it but a signal, itself, or the end of the tests."""

    def __init__(self, line: socket.socket, arguments: Sequence[str]) -> None:
        self.args = list(arguments)
        self.returncode: int | None = None
        self._line = line
        self.pid: int = _NUMBER.unpack(_exactly(line, _NUMBER.size))[0]

    def poll(self) -> int | None:
        """The exit code, negative for a signal's number; None while it runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end. Raises subprocess.TimeoutExpired after so many seconds."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Does nothing once it has ended."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._line], [], [], timeout)[0]:
            # Whoever watches over it is gone only if somebody killed both: then it counts as killed.
            told = self._line.recv(_NUMBER.size, socket.MSG_WAITALL)
            self.returncode = _NUMBER.unpack(told)[0] if len(told) == _NUMBER.size else -signal.SIGKILL
            self._line.close()
        return self.returncode


class Program:
    """A running program, like asyncio.subprocess.Process with a pipe for its output."""

    def __init__(self, forked: Forked, stdout: asyncio.StreamReader, pipe: asyncio.ReadTransport) -> None:
        self.pid = forked.pid
        self.stdout = stdout
        self.send_signal, self.terminate, self.kill = forked.send_signal, forked.terminate, forked.kill
        self._forked, self._pipe = forked, pipe

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal's number; None while it runs."""
        return self._forked.poll()

    async def wait(self) -> int:
        """Waits for its end; what it printed can still be read. Several may wait."""
        while (code := self._forked.poll()) is None:  # noqa: ASYNC110 - its line has no event, and several may wait
            await asyncio.sleep(_LOOK_SECONDS)
        for _ in range(_LOOKS_MAX):  # for what is still in the pipe
            if self._pipe.is_closing():
                break
            await asyncio.sleep(_LOOK_SECONDS)
        self._pipe.close()
        return code


async def started(
    module: str, *arguments: str, stderr: int | IO[bytes] = 2, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Program:
    """As `asyncio.create_subprocess_exec` of `python -m MODULE ARGUMENTS` with a pipe for its output."""
    read, write = os.pipe()
    out = os.fdopen(read, "rb")
    try:
        forked = await asyncio.to_thread(start, module, *arguments, stdout=write, stderr=stderr, env=env, cwd=cwd)
    except BaseException:
        out.close()
        raise
    finally:
        os.close(write)
    reader = asyncio.StreamReader()
    pipe, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), out)
    return Program(forked, reader, pipe)


def start(
    module: str,
    *arguments: str,
    stdout: int | IO[bytes] = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
) -> Forked:
    """`python -m MODULE ARGUMENTS` with these streams; standard input is empty."""
    line = socket.socket(socket.AF_UNIX)
    try:
        line.connect(_origin())
        request = {
            "module": module,
            "arguments": arguments,
            "cwd": str(cwd),
            "env": dict(os.environ if env is None else env),
        }
        body = json.dumps(request).encode()
        assert len(body) <= _REQUEST_BYTES_MAX
        with open(os.devnull, "r+b") as nothing:
            streams = [nothing if stream == subprocess.DEVNULL else stream for stream in (stdout, stderr)]
            numbers = [stream if isinstance(stream, int) else stream.fileno() for stream in (nothing, *streams)]
            socket.send_fds(line, [_NUMBER.pack(len(body))], numbers)
            line.sendall(body)
            return Forked(line, [module, *arguments])
    except BaseException:
        line.close()
        raise


def run(
    module: str, *arguments: str, env: Mapping[str, str] | None = None, cwd: Path = ROOT, timeout: float = 90
) -> subprocess.CompletedProcess[str]:
    """As `subprocess.run` of `python -m MODULE ARGUMENTS` that keeps what was printed."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        program = start(module, *arguments, stdout=out, stderr=err, env=env, cwd=cwd)
        try:
            code = program.wait(timeout)
        finally:
            program.kill()
            program.wait()
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(program.args, code, out.read().decode(), err.read().decode())


# --- the process that is forked from ----------------------------------------------------------------------------------

_started: tuple[subprocess.Popen[bytes], str] | None = None
_starting = threading.Lock()


def _origin() -> str:
    """Where it listens: an abstract address, which is gone with it."""
    global _started
    with _starting:
        if _started is None or _started[0].poll() is not None:
            read, write = os.pipe()
            kept = {name: value for name, value in os.environ.items() if not name.startswith("ORCHESTRATOR_")}
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.forking", str(write)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                pass_fds=(write,), cwd=ROOT, env=kept, start_new_session=True,
            )  # fmt: skip
            os.close(write)
            with os.fdopen(read) as ready:
                name = ready.readline().strip()
            assert name, "the process that programs are forked from did not start"
            _started = process, "\0" + name
            atexit.register(_end, process)
        return _started[1]


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait()


def _wait_to_be_asked(ready: int) -> socket.socket:
    """Comes back in a fork, with the line to who asked. Where it began, it ends when the tests' process is gone."""
    for name in IMPORTED:
        importlib.import_module(name)
    assert threading.active_count() == 1, threading.enumerate()
    gc.freeze()  # pages that nobody touches stay shared
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who watches
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0orchestrator-tests-{os.getpid()}-{time.monotonic_ns()}")
        listening.listen(_WAITING_MAX)
        os.write(ready, listening.getsockname()[1:] + b"\n")
        os.close(ready)
        while True:
            if 0 in select.select([listening.fileno(), 0], [], [])[0]:
                os._exit(0)
            line, _ = listening.accept()
            if os.fork() == 0:
                return line
            line.close()


def _forked(line: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Comes back in the program, with what it shall be. The other half watches over it and tells how it ended."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(line, _NUMBER.size, 3)
    request: dict[str, Any] = json.loads(_exactly(line, _NUMBER.unpack(size)[0]))
    program = os.fork()
    if program == 0:
        line.close()
        return request, streams
    for stream in (0, 1, 2, *streams):
        os.close(stream)
    line.sendall(_NUMBER.pack(program))
    ended = os.pidfd_open(program)
    if ended not in select.select([ended, line.fileno()], [], [])[0]:
        os.kill(program, signal.SIGKILL)  # who asked for it is gone
    code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    with contextlib.suppress(OSError):
        line.sendall(_NUMBER.pack(code))
    os._exit(0)


def _become(request: dict[str, Any], streams: list[int]) -> None:
    """What a shell and Python's start would have done; then the module, as the main one."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    own = [entry for entry in sys.path[1:] if entry not in given]
    sys.path[:] = [os.getcwd(), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *own]
    for name in ("tests", "tests.forking"):
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    sys.argv[1:] = request["arguments"]
    runpy.run_module(request["module"], run_name="__main__", alter_sys=True)


def _exactly(line: socket.socket, size: int) -> bytes:
    found = line.recv(size, socket.MSG_WAITALL)
    assert len(found) == size, "the other side is gone"
    return found


if __name__ == "__main__":
    _become(*_forked(_wait_to_be_asked(int(sys.argv[1]))))
