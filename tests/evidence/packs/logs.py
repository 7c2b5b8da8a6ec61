"""A running product whose log is signed, for the tests of packs: sagas of every kind, and one that calls another."""

from __future__ import annotations

import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from orchestrator.api.engine import Actor
from orchestrator.evidence.keys import KeyRing
from orchestrator.evidence.notes import Signer
from orchestrator.evidence.pack.serving import Packs
from orchestrator.evidence.sealing import Sealer
from orchestrator.messages import Done
from orchestrator.runtime.identity import saga_id_of
from orchestrator.store.postgres import PostgresStore
from tests.databases import Database
from tests.pages.office import OfficeProduct, office_product
from tests.runtime.desk import Desk, at_desk, event, incoming, reply
from tests.runtime.shop import TripBooked

SIGNER = Signer("bank.example/log", bytes(range(32)))
KEYS = KeyRing((SIGNER.verifier,), SIGNER)
VKEY = SIGNER.verifier.vkey
ZONE = "Asia/Kolkata"
OLGA, OSKAR = (Actor(name, (), "test", capacities=frozenset({"operator"})) for name in ("olga", "oskar"))


@dataclass
class SignedOffice:
    """The product, its sealer, and what makes packs of it."""

    product: OfficeProduct
    sealer: Sealer
    packs: Packs

    @property
    def sagas(self) -> dict[str, str]:
        """Ids by state."""
        return self.product.sagas

    async def pack(self, name: str, **wanted: Any) -> dict[str, bytes]:
        """The files of the pack of a staged saga."""
        return await self.packs.make("main", self.sagas[name], **wanted)


def packs_of(store: PostgresStore) -> Packs:
    """What makes packs of this store."""
    return Packs(store.pools, lambda: KEYS, ZONE)


async def seal_all(sealer: Sealer) -> None:
    """Signs until nothing is left."""
    while await sealer.seal() is not None:
        pass


@asynccontextmanager
async def signed_office(database: Database) -> AsyncIterator[SignedOffice]:
    """A saga in every state, one helped by two operators, one cancelled; all of it signed."""
    async with office_product(database) as product:
        await product.stage()
        await _helped(product)
        product.sagas["cancelled"] = await product.begin("wait", key="cancelled-1")
        await product.engine.cancel(product.sagas["cancelled"], OLGA, "the customer called")
        await product.until(product.sagas["cancelled"], lambda saga: saga.phase == "compensated")
        store = product.runtime.store
        sealer = Sealer(store, KEYS, records_max=1_000_000)
        await seal_all(sealer)
        product.app.state.packs = packs_of(store)
        yield SignedOffice(product, sealer, product.app.state.packs)


async def _helped(product: OfficeProduct) -> None:
    """A saga that was stuck: one person proposes a value, another one confirms it, a manager approves."""
    product.sagas["helped"] = saga_id = await product.begin("bug", key="helped-1")
    engine = product.engine
    for who, reason in ((OLGA, "limit from the paper file"), (OSKAR, "seen the paper file")):
        (place,) = (await engine.detail(saga_id, who)).stuck_places
        version = place.proposal["version"] if place.proposal else place.version
        await engine.operate(saga_id, "value", place.place, version, who, reason, data={"limit": "1000"})
    await engine.settled(saga_id, seconds_max=20, tenant="main")
    await product.decide(saga_id, "approve")
    await product.until(saga_id, lambda saga: saga.phase == "completed")


async def called(desk: Desk) -> tuple[str, str]:
    """A trip that has called a hotel, both of them through; gives the ids of parent and child."""
    await desk.take(event(TripBooked(trip_id="t-1", hotel="ritz")))
    (start,) = [row for row in desk.sent if row.topic == "orchestrator.sagas"]
    await desk.take(incoming(start.topic, start.key, start.headers, start.value))
    await desk.take(reply(desk.newest("hotels"), Done()))
    answer = [row for row in desk.sent if row.topic == "orchestrator.sagas"][-1]
    await desk.take(incoming(answer.topic, answer.key, answer.headers, answer.value))
    return saga_id_of("main", "trip", "t-1"), start.key


@asynccontextmanager
async def signed_trip(database: Database) -> AsyncIterator[tuple[Packs, str, str]]:
    """What makes packs, a parent and its child."""
    async with at_desk(database.url) as desk:
        parent, child = await called(desk)
        async with PostgresStore(database.url) as store:
            await seal_all(Sealer(store, KEYS, records_max=1_000_000))
            yield packs_of(store), parent, child


def unpacked(data: bytes, folder: Path) -> Path:
    """The folder with the files of a zip."""
    with zipfile.ZipFile(BytesIO(data)) as held:
        held.extractall(folder)
    return folder


def changed_ways(files: dict[str, bytes]) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Every file with one bit of it flipped, every file taken away, and one added: (name, files)."""
    for name, content in files.items():
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        yield name, {**files, name: flipped}
        yield name, {other: value for other, value in files.items() if other != name}
    yield "records/000999.json", {**files, "records/000999.json": files["records/000001.json"]}
