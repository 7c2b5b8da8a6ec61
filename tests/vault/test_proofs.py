"""A sealed value opens in a message only if the saga that the message names has provably sent these very bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from orchestrator import Event, Key, Personal, Saga, compute
from orchestrator.broker.contract import IncomingMessage
from orchestrator.kernel.effects import Outgoing
from orchestrator.messages.personal import SUBJECT_KEY
from orchestrator.runtime.before import SentBefore
from orchestrator.runtime.catalog import Catalog
from orchestrator.runtime.outgoing import Encoder
from orchestrator.runtime.routing import Router
from orchestrator.runtime.work import DomainEvent, Item, Unprocessable
from orchestrator.store.connections import ConnectionLimits, Pools
from orchestrator.store.operations import OperationQueries, SentMessage
from orchestrator.vault import keyfile
from orchestrator.vault.keys import Keys
from orchestrator.vault.proofs import HEADER
from orchestrator.vault.tokens import DataKey, saga_scope
from orchestrator.vault.vault import Vault
from tests.databases import Database

CONTEXT = "prooftest"
VICTIM, SECRET = "s-victim", "Cordelia Vane"


class Told(Event, context=CONTEXT):
    """What the victim's saga tells, and what another saga starts on."""

    case: Key[str]
    name: Personal[str]
    note: Personal[str] = ""


class Other(Event, context=CONTEXT):
    """Another type with the same fields."""

    case: Key[str]
    name: Personal[str]
    note: Personal[str] = ""


def nothing(told: Told) -> Told:
    return told


def nothing_other(told: Other) -> Other:
    return told


follows = Saga("follows", version=1, starts_on=Told, flow=[compute(nothing)])
others = Saga("others", version=1, starts_on=Other, flow=[compute(nothing_other)])


class Wire:
    """Routing over keys in memory: a victim's saga that has sent a message, and what becomes of others like it."""

    def __init__(self, path: Path) -> None:
        keys = Keys(cast("Pools", None), keyfile.create(path / "vault.keys"))
        self.key = DataKey("A" * 16, "main", bytes(range(32)))
        keys._kept(self.key)
        catalog = Catalog.of([follows, others], [])
        self.vault = Vault(keys, catalog, lambda _name, _data: "")
        self.outbox: SentMessage | None = None
        before = SentBefore(self._sent, "main")
        self.router = Router(
            catalog, tenant="main", tenants=frozenset({"main"}), message_bytes_max=10**6, headers_max=64,
            vault=self.vault, before=before,
        )  # fmt: skip

    async def _sent(self, tenant: str, saga_id: str, version: int) -> SentMessage | None:
        return self.outbox if (tenant, saga_id, version) == ("main", VICTIM, 7) else None

    def token(self, text: str = SECRET, name: str = "name") -> str:
        """A value of the victim's saga, as whoever reads records or topics finds it."""
        return self.key.seal(text, saga_scope(VICTIM), name)

    def sent(self, kind: str = "event", *, proven: bool = True, **body: str) -> IncomingMessage:
        """What the victim's saga has sent; `proven` False: as it was sent before there were proofs."""
        data = {"case": "v-1", "name": self.token(), **body}
        event = Outgoing(7, "event", f"{CONTEXT}.events", "v-1", f"{CONTEXT}.Told", 1, data, {SUBJECT_KEY: "A" * 16})
        if kind == "start":
            parent = {"saga_id": VICTIM, "activity": "call", "round": 1}
            begun = {"saga": "follows", "version": 1, "business_key": "v-1", "type": f"{CONTEXT}.Told"}
            event = replace(event, kind="start", target="s-child", key="s-child", type="", body=begun | {"data": data})
            event = replace(event, body=event.body | {"parent": parent})
        encoder = Encoder(10**6, self.vault.prover if proven else None)
        row = encoder.encode(event, VICTIM, "main", "care", "0" * 31 + "1-01", "", 1)
        self.outbox = SentMessage(row.topic, row.key, row.headers, row.value, False)
        return IncomingMessage(row.topic, 0, 0, row.key.encode(), row.value, row.headers, 1)

    async def route(self, message: IncomingMessage) -> Item | None:
        """What intake makes of it."""
        await self.router.learn([message])
        return self.router.route(message)

    async def refused(self, message: IncomingMessage) -> str:
        """Why it is a dead letter; it has opened nothing that anybody gets."""
        item = await self.route(message)
        assert isinstance(item, Unprocessable), item
        assert SECRET not in str(item.letter)
        return item.letter.reason


@pytest.fixture
def wire(tmp_path: Path) -> Wire:
    return Wire(tmp_path)


def headed(message: IncomingMessage, **headers: str | None) -> IncomingMessage:
    """The same message with other headers; None takes one away."""
    found = dict(message.headers) | {name: text.encode() for name, text in headers.items() if text is not None}
    gone = {name for name, text in headers.items() if text is None}
    return replace(message, headers=tuple((name, value) for name, value in found.items() if name not in gone))


def bodied(message: IncomingMessage, **fields: str) -> IncomingMessage:
    """The same message with other fields."""
    return replace(message, value=orjson.dumps(orjson.loads(message.value or b"") | fields))


@pytest.mark.parametrize("kind", ["event", "start"])
async def test_what_a_saga_has_sent_is_opened_for_whoever_it_is_for(wire: Wire, kind: str) -> None:
    """Also when it comes again, and from another place of the topic."""
    message = wire.sent(kind)
    for place in (message, replace(message, partition=3, offset=9)):
        item = await wire.route(place)
        assert not isinstance(item, Unprocessable), item
        assert item is not None
        assert SECRET in str(item)
        assert item.cause.opened is not None


ATTACKS: dict[str, Callable[[Wire, IncomingMessage], IncomingMessage]] = {
    "an event of one's own that names the victim as its sender": lambda wire, sent: headed(
        bodied(sent, case="e-1"), **{HEADER: None, "ce_id": "mine", "ce_source": "/up"}
    ),
    "the same with the proof of what the victim sent": lambda wire, sent: bodied(sent, case="e-1"),
    "one more of the victim's values in it": lambda wire, sent: bodied(sent, note=wire.token("diabetes", "note")),
    "another id": lambda wire, sent: headed(sent, ce_id=f"{VICTIM}/8"),
    "another type": lambda wire, sent: headed(sent, ce_type=f"{CONTEXT}.Other"),
    "another source": lambda wire, sent: headed(sent, ce_source="/sagas/other"),
    "another key": lambda wire, sent: replace(sent, key=b"e-1"),
    "another topic": lambda wire, sent: replace(sent, topic="elsewhere.events"),
    "its proof taken off": lambda wire, sent: headed(bodied(sent, case="e-1"), **{HEADER: None}),
    "an empty proof": lambda wire, sent: headed(sent, **{HEADER: ""}),
}


@pytest.mark.parametrize("attack", list(ATTACKS))
async def test_naming_another_saga_as_the_sender_opens_nothing_of_it(wire: Wire, attack: str) -> None:
    """Whoever may write to a topic, and reads sealed values, has them opened in no saga of their own."""
    assert await wire.refused(ATTACKS[attack](wire, wire.sent())) == "unauthorised_source"


async def test_a_saga_that_is_begun_in_anothers_name_opens_nothing_of_it(wire: Wire) -> None:
    """The topic between sagas is no way round."""
    message = wire.sent("start")
    body: dict[str, Any] = orjson.loads(message.value or b"")
    mine = replace(message, value=orjson.dumps(body | {"business_key": "e-1"}))
    assert await wire.refused(mine) == "unauthorised_source"
    assert await wire.refused(headed(message, **{HEADER: None, "ce_id": "x"})) == "unauthorised_source"


async def test_what_was_sent_before_there_were_proofs_is_believed_as_the_outbox_has_it(wire: Wire) -> None:
    """To the byte, and for as long as it has it."""
    message = wire.sent(proven=False)
    assert HEADER not in dict(message.headers)
    assert isinstance(await wire.route(message), DomainEvent)
    for other in (bodied(message, case="e-1"), headed(message, ce_type=f"{CONTEXT}.Other"), replace(message, key=b"e")):
        assert await wire.refused(other) == "unauthorised_source"
    again = Wire.sent(wire, proven=False, note="trimmed")
    wire.outbox = None
    assert await wire.refused(again) == "unauthorised_source"


async def test_a_message_that_names_a_saga_no_column_can_hold_stops_no_partition(database: Database) -> None:
    """Asked for as it is, a NUL fails for ever: intake would end, begin again, and meet it again."""
    pools = Pools(database.url, ConnectionLimits(), "test")
    before = SentBefore(OperationQueries(pools).sent_message, "main")
    try:
        for saga, tenant in ((b"s\0", b"main"), (b"s-1", b"ma\0in"), (b"\xff\xfe", b"\xff"), (b"s" * 100_000, b"main")):
            headers = (("ce_id", saga + b"/1"), ("ce_correlationid", saga), ("ce_tenant", tenant))
            message = IncomingMessage("t", 0, 0, b"k", b"{}", headers, 1)
            await before.learn([message])
            assert not before.knows(message)
    finally:
        await pools.close()
