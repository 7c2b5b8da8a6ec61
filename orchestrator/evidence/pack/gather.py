"""Reading what a pack is made of, and refusing to make one of a log that does not hold.

Rules of this file
- Nothing is believed: the chain of each saga, the signature of the checkpoint and the proof of every record are checked
  before a byte is written. What does not hold is named, and there is no pack.
- The checkpoint is the first whose tree holds all records of the pack, so a log that grows changes nothing.
- Everything is read as of one tenant.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from orchestrator.evidence.keys import KeyRing
from orchestrator.evidence.nodes import MissingNodesError
from orchestrator.evidence.notes import NoteError, SignedCheckpoint, open_checkpoint
from orchestrator.evidence.pack.material import DEFAULT_ZONE, Material, Strand, relatives_of
from orchestrator.evidence.reading import Evidence, StoredCheckpoint
from orchestrator.evidence.tree import included, leaf_hash
from orchestrator.store.connections import Pools
from orchestrator.store.contract import StoredRecord
from orchestrator.store.queries import STREAM_RECORDS_MAX, ReadQueries
from orchestrator.store.schemas import ContractSchemas

SAGAS_MAX = 500  # in one pack
RECORDS_MAX = STREAM_RECORDS_MAX  # in one pack


class PackError(Exception):
    """There is no pack; the text says why, and what to do.

    `code`: not_found, not_sealed, no_checkpoint, no_key, pack_too_large, altered, or invalid.
    """

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Gathering:
    """Reads packs' material from one store. `keys`: those that sign, and have signed, its checkpoints."""

    def __init__(self, pools: Pools, keys: KeyRing) -> None:
        self._queries = ReadQueries(pools)
        self._evidence = Evidence(pools)
        self._schemas = ContractSchemas(pools)
        self._keys = keys

    async def material(
        self, tenant: str, saga_id: str, *, related: bool = False, checkpoint: int = 0, zone: str = DEFAULT_ZONE
    ) -> Material:
        """What the pack of this saga is made of. `related`: with every saga that it called, and that called it.

        `checkpoint`: the number of the one to prove against, 0: the first that will do. Raises PackError, StoreError.
        """
        first = await self._strand(tenant, saga_id)
        if first is None:
            raise PackError("not_found", f"There is no saga {saga_id[:80]!r}.")
        others = await self._relatives(first) if related else []
        strands = [first, *others]
        last = max(record.position for strand in strands for record in strand.records)
        signed = await self._checkpoint(strands, last, checkpoint)
        proven = [await self._proven(strand, signed) for strand in strands]
        relatives = tuple(sorted(proven[1:], key=lambda strand: strand.saga_id))
        signing = [self._keys.signer.verifier.vkey] if self._keys.signer is not None else []
        return Material(proven[0], signed, tuple(dict.fromkeys([*signing, signed.by.vkey])), zone, relatives)

    async def _strand(self, tenant: str, saga_id: str) -> Strand | None:
        row = await self._queries.saga(tenant, saga_id)
        if row is None:
            return None
        flaw = await self._queries.verify(tenant, saga_id)
        if flaw is not None:
            raise PackError("altered", f"The log does not hold: {flaw}. Run `orchestrator audit verify`.")
        records = await self._queries.records(tenant, saga_id)
        if len(records) > RECORDS_MAX - 1:
            raise PackError(
                "pack_too_large", f"Saga {saga_id} has {len(records)} records, a pack holds {RECORDS_MAX - 1}."
            )
        return Strand(
            tenant, saga_id, row.name, row.definition_version, row.business_key, tuple(records), (),
            await self._queries.definition(row.name, row.definition_version),
            tuple(await self._schemas.of(row.name, row.definition_version)),
        )  # fmt: skip

    async def _relatives(self, first: Strand) -> list[Strand]:
        """Everything that can be reached by calls, up and down. What has not begun yet is not there."""
        found: dict[str, Strand | None] = {first.saga_id: first}
        waiting = deque([first])
        while waiting:
            for one in relatives_of(waiting.popleft()):
                if one.saga_id in found:
                    continue
                strand = found[one.saga_id] = await self._strand(first.tenant, one.saga_id)
                if strand is not None:
                    waiting.append(strand)
                _check_size([each for each in found.values() if each is not None])
        return [strand for strand in found.values() if strand is not None and strand is not first]

    async def _checkpoint(self, strands: Sequence[Strand], last: int, number: int) -> SignedCheckpoint:
        unsealed = [strand for strand in strands if any(not record.position for record in strand.records)]
        stored = None if unsealed else await self._stored(last, number)
        if stored is None:
            name = (unsealed or [strands[0]])[0]
            raise PackError(
                "not_sealed",
                f"The last records of {name.name} {name.business_key} are not under a signed checkpoint yet: "
                "one is signed every few seconds, so try again in a moment.",
            )
        try:
            return open_checkpoint(stored.note, self._keys.verifiers)
        except NoteError as error:
            raise PackError("altered", f"Checkpoint {stored.number} does not hold: {error}.") from error

    async def _stored(self, last: int, number: int) -> StoredCheckpoint | None:
        if not number:
            return await self._evidence.covering(last)
        stored = await self._evidence.checkpoint(number)
        if stored is None:
            raise PackError("no_checkpoint", f"There is no checkpoint {number}.")
        if stored.size < last:
            raise PackError(
                "no_checkpoint",
                f"Checkpoint {number} covers {stored.size} records, the last one of this pack is at position {last}: "
                "name a later one, or none.",
            )
        return stored

    async def _proven(self, strand: Strand, signed: SignedCheckpoint) -> Strand:
        """The strand with the path of each record to the signed root."""
        size, root = signed.checkpoint.size, signed.checkpoint.root
        try:
            proofs = await self._evidence.inclusion([record.position for record in strand.records], size)
        except MissingNodesError as error:
            raise PackError("altered", f"The log does not hold: {error}. Run `orchestrator audit verify`.") from error
        paths = []
        for record in strand.records:
            path = proofs[record.position]
            if not included(record.position - 1, size, leaf_hash(record.body), path, root):
                raise PackError("altered", _not_in(record, signed))
            paths.append(tuple(path))
        return replace(strand, paths=tuple(paths))


def _check_size(strands: Sequence[Strand]) -> None:
    records = sum(len(strand.records) for strand in strands)
    if len(strands) > SAGAS_MAX or records > RECORDS_MAX:
        raise PackError(
            "pack_too_large",
            f"This saga and those related to it are {len(strands)} or more with {records} records; a pack holds "
            f"{SAGAS_MAX} sagas and {RECORDS_MAX} records: make one pack for each.",
        )


def _not_in(record: StoredRecord, signed: SignedCheckpoint) -> str:
    return (
        f"The log does not hold: record {record.version} of saga {record.saga_id}, at position {record.position}, is "
        f"not what checkpoint {signed.checkpoint.number} was signed over. Run `orchestrator audit verify`."
    )
