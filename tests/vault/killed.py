"""`python -m tests.vault.killed URL KEY_FILE REQUEST`: confirms an erasure, and is killed before any saga is told."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.work import Outcome, SagaInput
from orchestrator.store.connections import ConnectionLimits, Pools
from orchestrator.store.queries import ReadQueries
from orchestrator.vault import keyfile
from orchestrator.vault.erasing import Erasing
from orchestrator.vault.finishing import Finishing
from orchestrator.vault.keys import Keys
from orchestrator.vault.repeating import Repeating
from orchestrator.vault.vault import Vault


async def confirm(url: str, key_file: str, request: str) -> None:
    """Never returns where there is a saga to tell."""
    pools = Pools(url, ConnectionLimits(), "test")
    vault = Vault(Keys(pools, keyfile.read(Path(key_file))), Catalog.of([], []), lambda _name, _data: "")

    async def submit(_: SagaInput) -> Outcome:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("it lives")

    finishing = Finishing(pools, submit, ReadQueries(pools).records)
    repeating = Repeating(vault.keys, pools, [])
    await Erasing(vault, pools, finishing, repeating, two_people=True).confirm("main", request, "omar")


if __name__ == "__main__":
    asyncio.run(confirm(*sys.argv[1:]))
