"""Measured spans on disk until a collector has them, so that a process that dies loses none that it had noted.

How it works
    note    a line is handed to a thread, which appends it to this process's own file: no fsync, so it outlives the
            process and not the machine
    clear   all that was noted has been sent: the file is cut back to its first line, which says whose spans they are
    left    files that nobody holds any more (a lock dies with its process) are read by whoever comes next, sent as they
            stand, and deleted; the same bytes again, should they have been sent already
Rules of this file
- The event loop never waits for a disk: a thread of its own writes, and a disk that hangs costs the safety alone.
- Everything is bounded: the file, how many there are, what waits to be written, what is read of files that were left.
- A directory that cannot be written to is said once, and spans are then lost in a crash, as without this file.
- Nothing here knows what a span is: a line is a service, a tab and bytes.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import orjson
import structlog

BYTES_MAX = 16 * 1024 * 1024
QUEUE_BYTES_MAX = 4 * 1024 * 1024  # noted and not written yet: a disk that hangs
LEFT_SECONDS_MAX = 5.0
CLOSE_SECONDS_MAX = 2.0
LEFT_FILES_MAX = 100  # of a directory: one process more keeps nothing
LEFT_BYTES_MAX = 32 * 1024 * 1024  # held in memory in one go; what is left over is for the next look
SUFFIX = ".spans"
_CLEAR, _END = b"clear", b"end"  # no lines: those end with a line feed

log = structlog.get_logger("orchestrator.traces")


@dataclass(frozen=True, slots=True)
class Left:
    """What a process left behind. `lines`: service and bytes. Held by us until `Spool.release`."""

    path: Path
    resource: Mapping[str, str]
    lines: tuple[tuple[str, bytes], ...]
    descriptor: int


class Spool:
    """The spool of one process. `resource`: what its spans are sent as."""

    def __init__(self, directory: Path, resource: Mapping[str, str], bytes_max: int = BYTES_MAX) -> None:
        self._directory, self._bytes_max = directory, bytes_max
        self._head = orjson.dumps(dict(resource)) + b"\n"
        self._path = directory / f"{os.getpid()}-{secrets.token_hex(6)}{SUFFIX}"
        self._todo: SimpleQueue[bytes | Callable[[], None]] = SimpleQueue()
        self._put_bytes = self._taken_bytes = 0  # by the event loop, by the thread
        self._together: list[bytes] = []
        self._noted = False
        self._descriptor = -1
        self._thread: threading.Thread | None = None
        self.trouble = ""  # why nothing is kept, "" while it is

    def note(self, service: str, line: bytes) -> None:
        """Keeps a line until `clear`. Beyond the limits, or where the disk will not, it is not kept."""
        if self.trouble or self._put_bytes - self._taken_bytes > QUEUE_BYTES_MAX:
            return
        whole = b"%b\t%b\n" % (service.encode(), line)
        self._put_bytes += len(whole)
        self._noted = True
        if not self._together:
            try:
                asyncio.get_running_loop().call_soon(self._hand_over)
            except RuntimeError:  # no loop: nothing more comes with it
                self._do(whole)
                return
        self._together.append(whole)

    def clear(self) -> None:
        """All that was noted has been sent."""
        if self._noted:
            self._noted = False
            self._hand_over()
            self._do(_CLEAR)

    async def left(self) -> list[Left]:
        """What other processes left, held by us; nothing where the disk does not say so in time."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Left]] = loop.create_future()

        def give(found: list[Left]) -> None:
            if answer.done():  # nobody waits any more
                for left in found:
                    self.release(left, sent=False)
            else:
                answer.set_result(found)

        def look() -> None:
            found = self._left()
            try:
                loop.call_soon_threadsafe(give, found)
            except RuntimeError:  # the process ends, and its locks with it
                pass

        self._do(look)
        try:
            return await asyncio.wait_for(answer, LEFT_SECONDS_MAX)
        except TimeoutError:
            return []

    def release(self, left: Left, *, sent: bool) -> None:
        """Lets go of what was left; for good where it was sent."""

        def let_go() -> None:
            with suppress(OSError):
                if sent:
                    left.path.unlink(missing_ok=True)
            with suppress(OSError):
                os.close(left.descriptor)

        self._do(let_go)

    async def close(self) -> None:
        """Ends: an empty file goes, another one stays for whoever comes next. Waits a moment for a slow disk."""
        over = time.monotonic() + CLOSE_SECONDS_MAX
        self._hand_over()
        self._todo.put(_END)
        while self._thread is not None and self._thread.is_alive() and time.monotonic() < over:  # noqa: ASYNC110 - a thread
            await asyncio.sleep(0.005)

    def _hand_over(self) -> None:
        """What one round of the event loop has noted, in one piece: waking a thread costs more than writing."""
        if self._together:
            self._do(b"".join(self._together))
            self._together.clear()

    def _do(self, what: bytes | Callable[[], None]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="span-spool", daemon=True)
            self._thread.start()
        self._todo.put(what)

    # --- the thread --------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        written = 0
        while (what := self._todo.get()) is not _END:
            if not isinstance(what, bytes):
                with suppress(OSError):  # a file that will not go away ends nothing
                    what()
            elif not self.trouble:
                written = self._carried_out(what, written)
        with suppress(OSError):
            if self._descriptor >= 0:
                if not written:
                    self._path.unlink(missing_ok=True)
                os.close(self._descriptor)
            self._directory.rmdir()  # where it is empty

    def _carried_out(self, what: bytes, written: int) -> int:
        """Writes a line, or clears; how many bytes of lines are in the file now."""
        try:
            if self._descriptor < 0:
                self._open()
            if what is _CLEAR:
                os.ftruncate(self._descriptor, len(self._head))
                return 0
            self._taken_bytes += len(what)
            fits = (
                what.rfind(b"\n", 0, max(self._bytes_max - written, 0)) + 1
            )  # whole lines, as many as there is room for
            return written + (os.write(self._descriptor, what[:fits]) if fits else 0)
        except OSError as error:
            self.trouble = str(error)[:200] or type(error).__name__
            log.warning("spans that were not sent yet would be lost in a crash", reason=self.trouble)
            return written

    def _open(self) -> None:
        """A file that has our lock before anybody can find it under its name."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if len(list(self._directory.glob(f"*{SUFFIX}"))) >= LEFT_FILES_MAX:
            raise OSError(f"{self._directory} holds {LEFT_FILES_MAX} files that wait for a collector")
        draft = self._path.with_suffix(".new")
        self._descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(self._descriptor, self._head)
        draft.rename(self._path)

    def _left(self) -> list[Left]:
        try:
            paths = sorted(self._directory.glob(f"*{SUFFIX}"))[:LEFT_FILES_MAX]
        except OSError:
            return []
        found: list[Left] = []
        room = LEFT_BYTES_MAX
        for path in paths:
            left = self._taken(path) if path != self._path and room > 0 else None
            if left is not None:
                found.append(left)
                room -= sum(len(line) for _, line in left.lines)
        return found

    def _taken(self, path: Path) -> Left | None:
        """A file that nobody holds; None where somebody does, or it has nothing that can be read."""
        descriptor = -1
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with open(descriptor, "rb", closefd=False) as file:
                head, *lines = file.read(2 * self._bytes_max).split(b"\n")[:-1] or [b""]
            resource = {str(name): str(value) for name, value in orjson.loads(head or b"{}").items()}
            parts = (line.partition(b"\t") for line in lines)
            whole = tuple((service.decode(), rest) for service, _, rest in parts if _is_json(rest))
        except (OSError, ValueError, AttributeError) as error:
            if not isinstance(error, BlockingIOError):
                log.info("spans that a process left cannot be read", file=path.name, reason=repr(error)[:200])
            if not isinstance(error, OSError):  # held by us, and nobody will ever read it
                path.unlink(missing_ok=True)
            if descriptor >= 0:
                os.close(descriptor)
            return None
        if not whole:
            path.unlink(missing_ok=True)
            os.close(descriptor)
            return None
        return Left(path, resource, whole, descriptor)


def _is_json(line: bytes) -> bool:
    """Whole: the last line of a process that was killed may be torn."""
    try:
        orjson.loads(line)
    except ValueError:
        return False
    return True
