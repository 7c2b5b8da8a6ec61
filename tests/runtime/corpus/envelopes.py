"""Envelopes with missing, empty, doubled, misspelt, huge and unreadable attributes; unknown types and tenants."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.broker.contract import OutgoingMessage
from tests.runtime.corpus.bodies import LONG_KEY
from tests.runtime.corpus.market import EnquiryMade, NewsCame, PurchaseMade
from tests.runtime.corpus.record import EVENTS, Bad, Headers, changed, dead, headers_of

RIGHT = PurchaseMade(purchase_id="envelope")


def record(headers: Headers, key: bytes | None = b"envelope") -> OutgoingMessage:
    """The right body under these headers."""
    return OutgoingMessage(EVENTS, key, RIGHT.canonical(), headers)


def envelopes() -> Iterator[Bad]:
    """Attributes that are required, and are not as they must be."""
    right = headers_of(RIGHT)
    yield dead("envelope: none", record(()), "unreadable")
    for name in ("ce_id", "ce_source", "ce_type", "ce_specversion"):
        yield dead(f"envelope: no {name}", record(changed(right, {name: None})), "unreadable")
        yield dead(f"envelope: empty {name}", record(changed(right, {name: b""})), "unreadable")
        yield dead(f"envelope: {name} is no UTF-8", record(changed(right, {name: b"\xff\xfe"})), "unreadable")
        yield dead(f"envelope: two {name}", record((*right, (name, b"another"))), "unreadable")
    yield dead("envelope: ce_id and CE_ID", record((*right, ("CE_ID", b"another"))), "unreadable")
    yield dead("envelope: two tenants", record((*right, ("ce_tenant", b"main"), ("ce_tenant", b"x"))), "unreadable")
    for version in (b"0.3", b"2.0", b"1", b"1.0 "):
        yield dead(
            f"envelope: specversion {version!r}", record(changed(right, {"ce_specversion": version})), "unreadable"
        )
    yield dead("envelope: names in camel case", record(_renamed(right, "ceId")), "unreadable")
    yield dead("envelope: names of HTTP", record(_renamed(right, "ce-id")), "unreadable")


def types_and_tenants() -> Iterator[Bad]:
    """Nobody's types, nobody's tenants."""
    for name, type_ in {
        "unknown": b"market.Nonsense",
        "misspelt": b"market.purchasemade",
        "with U+0000": b"market.Purchase\x00Made",
        "huge": b"t" * 50_000,
    }.items():
        yield dead(f"type: {name}", record(changed(headers_of(RIGHT), {"ce_type": type_})), "unknown_type")
    for name, tenant in {"another": b"strangers", "with U+0000": b"ma\x00in", "in capitals": b"MAIN"}.items():
        yield dead(f"tenant: {name}", record(changed(headers_of(RIGHT), {"ce_tenant": tenant})), "wrong_tenant")
    yield dead("tenant: no UTF-8", record(changed(headers_of(RIGHT), {"ce_tenant": b"\xff"})), "unreadable")
    waited = NewsCame(enquiry_id="nobody")
    huge = changed(headers_of(waited), {"ce_id": LONG_KEY.encode()})
    yield dead("type: a huge id", OutgoingMessage(EVENTS, b"x", waited.canonical(), huge), "oversized")
    huge = changed(headers_of(waited), {"ce_source": LONG_KEY.encode()})
    yield dead("type: a huge source", OutgoingMessage(EVENTS, b"x", waited.canonical(), huge), "oversized")


def odd_envelopes() -> Iterator[Bad]:
    """What must be taken all the same: capitals, ids of any length, names that are no text, keys of any kind."""

    def made(name: str, number: int, headers: dict[str, bytes | None], key: bytes | None = b"k") -> Bad:
        message = PurchaseMade(purchase_id=f"odd-envelope-{number}")
        found = changed(headers_of(message), headers)
        return Bad(f"odd: {name}", OutgoingMessage(EVENTS, key, message.canonical(), found), "applied")

    yield made("no key", 1, {}, None)
    yield made("a key that is no UTF-8", 2, {}, b"\xff\xfe\x00")
    yield made("an empty key", 3, {}, b"")
    yield made("a long id", 4, {"ce_id": LONG_KEY[:500].encode()})
    yield made("an id with control characters", 5, {"ce_id": b"a\x00b\nc\x1fd"})
    yield made("a source with control characters", 6, {"ce_source": b"/a\x00b\nc\x1fd"})
    yield made("a header name that is no UTF-8", 7, {"x-\udcff\udcfe": b"1"})
    yield made("a huge header", 8, {"x-cookie": b"c" * 200_000})
    message = PurchaseMade(purchase_id="odd-envelope-9")
    capitals = tuple((name.upper(), value) for name, value in headers_of(message))
    yield Bad("odd: names in capitals", OutgoingMessage(EVENTS, b"k", message.canonical(), capitals), "applied")


def unreadable_names() -> Iterator[Bad]:
    """A header name that is no UTF-8, where everything else is wrong as well."""
    yield dead("name: no UTF-8, and no envelope", record((("\udcff", b"\xff"),)), "unreadable")
    yield dead("name: no UTF-8, in an attribute", record((("ce_id", b"1"), ("ce_\udcc3(", b"x"))), "unreadable")


def seen_before() -> Iterator[Bad]:
    """The same again, and the same id with something else. The first of each is right; order counts."""
    first = EnquiryMade(enquiry_id="twice")
    headers = headers_of(first, id_="seen-before")
    yield Bad("again: first", OutgoingMessage(EVENTS, b"twice", first.canonical(), headers), "applied")
    yield Bad("again: the same", OutgoingMessage(EVENTS, b"twice", first.canonical(), headers), "duplicate")
    other = EnquiryMade(enquiry_id="twice-other")
    yield dead("again: another body", OutgoingMessage(EVENTS, b"twice", other.canonical(), headers), "other_body")
    # The body is what the inbox compares; a start of the same saga under another id meets the kernel's own check.
    same = OutgoingMessage(EVENTS, b"twice", first.canonical(), headers_of(first, id_="seen-before-2"))
    yield Bad("again: the same start under another id", same, "nothing")


def _renamed(headers: Headers, example: str) -> Headers:
    """The attribute names as somebody else's convention has them."""

    def name_of(name: str) -> str:
        if not name.startswith("ce_"):
            return name
        return f"ce-{name[3:]}" if "-" in example else f"ce{name[3:].capitalize()}"

    return tuple((name_of(name), value) for name, value in headers)
