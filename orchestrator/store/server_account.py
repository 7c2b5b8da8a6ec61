"""Under which user of the machine the embedded PostgreSQL runs, and how it is kept alive no longer than its owner.

Rules: an ordinary user runs the server itself. Root may not, PostgreSQL forbids it, so root picks a user who exists and
gives away only the directories that the server writes. No user is created, no permission of a parent directory changed.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


class ServerAccountError(Exception):
    """This machine offers no way to run the server safely. For whoever runs the machine."""

    retriable = False


@dataclass(frozen=True)
class ServerAccount:
    """The user that runs the server; `switched` when that is not who we are (we are root)."""

    uid: int
    gid: int
    switched: bool

    @classmethod
    def choose(cls, pgdata: Path) -> ServerAccount:
        """Whoever already owns the data; else ourselves, or as root `postgres`, else `nobody`.

        Raises ServerAccountError when the data belongs to somebody whom we cannot become.
        """
        owner = pgdata.stat() if pgdata.exists() else None
        if os.geteuid() != 0:
            if owner is not None and owner.st_uid != os.geteuid():
                raise ServerAccountError(
                    f"{pgdata} belongs to uid {owner.st_uid}, this process runs as uid {os.geteuid()}. "
                    "Run as that user, or choose another data directory."
                )
            return cls(os.geteuid(), os.getegid(), switched=False)
        if owner is not None and owner.st_uid != 0:
            return cls(owner.st_uid, owner.st_gid, switched=True)
        for name in ("postgres", "nobody"):
            try:
                known = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(known.pw_uid, known.pw_gid, switched=True)
        raise ServerAccountError(
            "PostgreSQL refuses to run as root and this machine has neither a user postgres nor nobody. "
            "Run as an ordinary user."
        )

    def give(self, directory: Path) -> None:
        """Makes an existing directory the server's own and closes it to others.

        Raises ServerAccountError when it is a link or somebody else's: then it was put there for us to fall into.
        """
        found = directory.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), self.uid):
            raise ServerAccountError(
                f"{directory} should be a directory of uid {self.uid}, but is something else or belongs to "
                f"uid {found.st_uid}. Look at it, then remove it."
            )
        directory.chmod(0o700)
        if self.switched:
            os.chown(directory, self.uid, self.gid)

    def prefix(self, *needed: Path, dies_with_parent: bool = False) -> list[str]:
        """The words to put before a command so that it runs as this user.

        needed: paths it must reach; if a directory on the way is closed to it, it keeps CAP_DAC_OVERRIDE, no other.
        dies_with_parent: it is asked to stop (SIGINT) when the thread that started it ends, however that ends.
        """
        setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
        if setpriv is None:
            if self.switched:
                raise ServerAccountError(
                    "running the embedded PostgreSQL as root needs the program setpriv (package util-linux). "
                    "Install it, or run as an ordinary user."
                )
            return []
        options = ["--pdeathsig", "INT"] if dies_with_parent else []
        if self.switched:
            options += [f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups"]
            if not all(self._reaches(path) for path in needed):
                # access(2) asks with the real user's rights and drops capabilities, unless told not to.
                options += ["--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup"]
        return [setpriv, *options, "--"] if options else []

    def _reaches(self, path: Path) -> bool:
        """Whether the file modes let this user read `path` and pass every directory above it."""
        for place in (path, *path.parents):
            mode = place.stat()
            wanted = stat.S_IROTH | stat.S_IXOTH if place == path else stat.S_IXOTH
            own = mode.st_uid == self.uid and mode.st_mode & stat.S_IXUSR
            if not own and mode.st_mode & wanted != wanted:
                return False
        return True


def runs_on(pid: int, pgdata: Path) -> bool:
    """Whether process `pid` lives and is the PostgreSQL server of this directory, not a stranger with its number."""
    if Path("/proc/self/cmdline").exists():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
    else:
        command = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False).stdout
    return b"postgres" in command and os.fsencode(pgdata) in command
