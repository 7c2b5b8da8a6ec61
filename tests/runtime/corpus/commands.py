"""What may lie on a participant's command topic and is no command: the participant keeps it and obeys the others."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.broker.contract import OutgoingMessage
from tests.runtime.corpus.market import Pack, PurchaseMade
from tests.runtime.corpus.record import Bad, changed, dead, headers_of

TOPIC = "packers.commands"


def commands() -> Iterator[Bad]:
    """On the topic of the packers; the reason is always that nobody can tell whose command it is."""
    event = PurchaseMade(purchase_id="lost")
    yield dead("command: an event", OutgoingMessage(TOPIC, b"x", event.canonical(), headers_of(event)), "unreadable")
    command = Pack(purchase_id="forged")
    right = headers_of(
        command,
        tenant="main", correlationid="nobody", activity="pack", round="1", attempt="1", purpose="do",
        idempotencykey="main:nobody:pack:1:0123456789abcdef",
    )  # fmt: skip
    for name in ("correlationid", "activity", "round", "attempt", "purpose", "idempotencykey"):
        record = OutgoingMessage(TOPIC, b"x", command.canonical(), changed(right, {f"ce_{name}": None}))
        yield dead(f"command: no {name}", record, "unreadable")
    for name, text in {
        "round": b"one",
        "purpose": b"wish",
        "idempotencykey": b"k" * 10_000,
        "earlier": b"k " * 500,
    }.items():
        record = OutgoingMessage(TOPIC, b"x", command.canonical(), changed(right, {f"ce_{name}": text}))
        yield dead(f"command: wrong {name}", record, "unreadable")
    yield dead("command: garbage", OutgoingMessage(TOPIC, b"x", bytes(range(256)), ()), "unreadable")
    yield dead("command: null value", OutgoingMessage(TOPIC, b"x", None, right), "unreadable")
    yield dead(
        "command: a key with U+0000",
        OutgoingMessage(TOPIC, b"x", command.canonical(), changed(right, {"ce_idempotencykey": b"a\x00b"})),
        "unreadable",
    )
    yield dead(
        "command: a name that is no UTF-8", OutgoingMessage(TOPIC, b"x", b"{}", (("\udcff", b"1"),)), "unreadable"
    )
