"""What a wire between a store and its database sees of a commit: the word itself, or a statement that is one."""

from __future__ import annotations

import re

COMMIT = b"COMMIT\0"
_PREPARED = re.compile(rb"(__asyncpg_stmt_\w+__)\0[^\0]*presumed_v1\(")


class Commits:
    """Recognises them on one connection: COMMIT, and a run of the function that writes and commits in one."""

    def __init__(self) -> None:
        self._names: set[bytes] = set()

    def among(self, data: bytes) -> bool:
        """These bytes from client to server commit something. They also teach the names of prepared statements."""
        if COMMIT in data or any(b"\0" + name + b"\0" in data for name in self._names):
            return True
        self._names.update(_PREPARED.findall(data))
        return False
