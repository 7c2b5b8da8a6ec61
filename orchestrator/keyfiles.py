"""Files of keys: written so that nobody else can read them, whole or not at all.

Rules of this file
- Nothing here knows what kind of keys they are: those of the vault and those that sign the log are read elsewhere.
- A file that is half written is never there under its name; one that is not to be replaced never is.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


class KeyFileError(ValueError):
    """A key file cannot be used: missing, readable by others, or not as it should be. The text says what to do."""

    retriable = False


def write_private(file: Path, text: str, *, is_new: bool = False) -> None:
    """Writes a file that only its owner can read, and the folders that lead to it. Raises OSError.

    is_new: FileExistsError where there is one; else it is replaced.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        if is_new:
            os.link(scratch, file)  # fails where somebody else was quicker
        else:
            scratch.replace(file)
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink()
