"""Making packs in a running process: whose key signs, how long a checkpoint is waited for, how many at a time.

Rules of this file
- A pack is made beside the event loop, a few at a time; whoever asks for one waits for their turn.
- The key is read when a pack is made, so that a new one counts at once. It never leaves this file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from orchestrator.evidence.keys import KeyRing
from orchestrator.evidence.pack.assemble import pack_of
from orchestrator.evidence.pack.gather import Gathering, PackError
from orchestrator.evidence.pack.material import Material
from orchestrator.evidence.pack.personal import Keys, say_of
from orchestrator.evidence.pack.settings import is_zone
from orchestrator.keyfiles import KeyFileError
from orchestrator.store.connections import Pools

AT_ONCE_MAX = 2
SEALED_SECONDS_MAX, POLL_SECONDS = 8.0, 0.25  # how long the next checkpoint is waited for


class Packs:
    """Makes packs from one store. `keys`: gives the log's keys, None where there are none.

    `people`: where keys of people are asked for, None where nothing is sealed under any.
    """

    def __init__(self, pools: Pools, keys: Callable[[], KeyRing | None], zone: str, people: Keys | None = None) -> None:
        self._pools = pools
        self._keys = keys
        self._zone = zone
        self._people = people
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)

    async def make(
        self,
        tenant: str,
        saga_id: str,
        *,
        related: bool = False,
        checkpoint: int = 0,
        zone: str = "",
        sealed: bool = False,
    ) -> dict[str, bytes]:
        """All files of a saga's pack. `zone`: of local times in its report; `sealed`: with nothing opened in it.

        Raises PackError, StoreError.
        """
        ring = self._ring()
        signer = ring.signer
        if signer is None:
            raise PackError("no_key", "The key that this process has can verify, and not sign.")
        zone = zone or self._zone
        if not is_zone(zone):
            raise PackError("invalid", f"There is no time zone {zone[:60]!r}; one is named like Asia/Kolkata.")
        async with self._turns:
            gathering = Gathering(self._pools, ring)
            material = await _sealed(gathering, tenant, saga_id, related, checkpoint, zone)
            say = await say_of(material, None if sealed else self._people)
            return await asyncio.to_thread(pack_of, material, signer, say)

    def _ring(self) -> KeyRing:
        try:
            ring = self._keys()
        except KeyFileError as error:
            raise PackError("no_key", "The key file of this process cannot be used; its log says why.") from error
        if ring is None:
            raise PackError("no_key", "No key is set for this process.")
        return ring


async def _sealed(
    gathering: Gathering, tenant: str, saga_id: str, related: bool, checkpoint: int, zone: str
) -> Material:
    """The material, once a checkpoint covers it; a saga that has just moved is covered within seconds."""
    over = asyncio.get_running_loop().time() + SEALED_SECONDS_MAX
    while True:
        try:
            return await gathering.material(tenant, saga_id, related=related, checkpoint=checkpoint, zone=zone)
        except PackError as error:
            if error.code != "not_sealed" or asyncio.get_running_loop().time() >= over:
                raise
        await asyncio.sleep(POLL_SECONDS)
