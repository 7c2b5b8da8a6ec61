"""A name for this process within its consumer groups, that a process started in its place takes up again.

Why: a broker waits for a member that died without a word until its session is over, 45 seconds on Kafka, and so do all
the others of its group. A member that comes back under the same name gets its partitions back at once.

Rules of this file
- A name is random, and kept in a file under a lock. So two processes can never have one name: not on one machine, since
  the lock is held as long as a process lives and is free when it is killed; not on two, since each has its own file.
- Processes that do the same (roles, group, broker, database) share a row of files: whoever comes takes the first that
  is free. After a crash of all of them all names are taken up again, whoever gets which.
- Where no file can be written there is no name: everything works, only recovery waits for the session time-out. An
  operator who knows a better name (a pod's) sets ORCHESTRATOR_INSTANCE_ID.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import structlog

NAMES_MAX = 64
_NAME = re.compile(r"[a-z-]{1,100}-[0-9a-f]{32}")

log = structlog.get_logger("orchestrator.naming")


class InstanceName:
    """A name that is ours while its file is locked. `text` is "" where there is none."""

    def __init__(self, text: str = "", descriptor: int = -1) -> None:
        self.text = text
        self._descriptor = descriptor

    def forget(self) -> None:
        """Somebody else goes by this name: a copied directory. The next process in this place gets a new one."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)


@contextmanager
def instance_name(directory: Path, purpose: str, *belonging: str) -> Iterator[InstanceName]:
    """A name for as long as the block runs. `purpose`: small letters and hyphens; `belonging`: what it is a name in."""
    row = sha256("\n".join((purpose, *belonging)).encode()).hexdigest()[:12]
    for number in range(NAMES_MAX):
        try:
            directory.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(directory / f"{purpose}-{row}-{number}", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            log.info(
                "no name for this process: a crash is noticed later; set ORCHESTRATOR_INSTANCE_ID", error=str(error)
            )
            break
        try:
            if _locked(descriptor):
                yield InstanceName(_kept(descriptor, purpose), descriptor)
                return
        finally:
            os.close(descriptor)  # which gives the lock back
    yield InstanceName()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _kept(descriptor: int, purpose: str) -> str:
    """The name in the file; a new one where there is none that can be read whole."""
    name = os.pread(descriptor, 200, 0).decode("ascii", "replace")
    if not _NAME.fullmatch(name):
        name = f"{purpose}-{uuid4().hex}"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, name.encode(), 0)
        os.fsync(descriptor)
    return name
