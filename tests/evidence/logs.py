"""Logs to prove things of: sagas written through the store, and everything that sealing them needs."""

from __future__ import annotations

import asyncpg

from orchestrator.evidence import tree
from orchestrator.evidence.keys import KeyRing
from orchestrator.evidence.notes import Signer
from orchestrator.store.postgres import PostgresStore
from tests.contracts.stores import append, start, written
from tests.databases import Database


async def grown(store: PostgresStore, records: int, *, sagas: int = 5, first: str = "K", batch: int = 50) -> None:
    """So many more records, spread over new sagas, in batches; all of them have positions afterwards."""
    keys = [start(f"{first}-{number}") for number in range(sagas)]
    versions = [0] * sagas
    left, turn = records, 0
    while left:
        appends = []
        for at in range(sagas):
            count = min(1 + (turn + at) % 3, left, batch)
            if count:
                types = ["saga.started" if versions[at] + n == 0 else f"step.{n}" for n in range(count)]
                appends.append(append(keys[at], versions[at], *types))
                versions[at] += count
                left -= count
        turn += 1
        await written(store, *appends)
    while await store.seal():
        pass


async def leaves_of(store: PostgresStore) -> list[bytes]:
    """The leaf of every record, in order, computed here."""
    return [tree.leaf_hash(record.body) async for record in store.records(0, 10_000_000)]


def signer(seed: int = 1, name: str = "bank.example/log") -> Signer:
    """A key that is the same every time."""
    return Signer(name, bytes([seed]) * 32)


def ring(*signers: Signer) -> KeyRing:
    """The first one signs, the others did before."""
    first = signers[0] if signers else signer()
    return KeyRing(tuple(one.verifier for one in signers or (first,)), first)


async def as_superuser(database: Database, *statements: str) -> None:
    """What somebody does who owns the database server: triggers off, no questions."""
    connection = await asyncpg.connect(database.admin_url)
    try:
        await connection.execute("SET session_replication_role = replica")
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()
