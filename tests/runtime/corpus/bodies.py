"""Bodies that are no JSON, are JSON of another form, or do not fit their contract: in binary and in structured mode."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from hashlib import sha256

import orjson

from orchestrator.broker.contract import OutgoingMessage
from tests.runtime.corpus.market import BeginLeg, EnquiryMade, Packed, PurchaseDone, PurchaseMade
from tests.runtime.corpus.record import EVENTS, Bad, changed, dead, headers_of

DEEP = 100_000
OVERSIZED = 300_000  # over ORCHESTRATOR_MESSAGE_BYTES_MAX of the tests, under the topic's limit
BOMB_BYTES = 50_000_000
LONG_KEY = "".join(sha256(b"%d" % number).hexdigest() for number in range(1_500))  # nothing that compresses

# Whatever these bytes are, they are no PurchaseMade.
NOT_JSON: dict[str, bytes] = {
    "garbage": bytes(range(256)),
    "empty": b"",
    "white space": b" \n\t ",
    "invalid UTF-8": b'{"purchase_id":"\xc3\x28"}',
    "UTF-8 of a surrogate": b'{"purchase_id":"\xed\xa0\x80"}',
    "lone surrogate": b'{"purchase_id":"\\ud800"}',
    "UTF-16": '{"purchase_id":"x"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"purchase_id":"x"}',
    "truncated": b'{"purchase_id":"x","amo',
    "two documents": b'{"purchase_id":"x"}{"purchase_id":"y"}',
    "trailing comma": b'{"purchase_id":"x",}',
    "single quotes": b"{'purchase_id':'x'}",
    "a comment": b'{"purchase_id":"x"} // bought',
    "raw control character": b'{"purchase_id":"a\x01b"}',
    "NaN": b'{"purchase_id":"x","count":NaN}',
    "Infinity": b'{"purchase_id":"x","amount":Infinity}',
    "deep arrays": b"[" * DEEP,
    "deep arrays, closed": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * (DEEP // 5),
    "gzip bomb": gzip.compress(bytes(BOMB_BYTES)),
}
OTHER_FORM: dict[str, bytes] = {
    "an array": b'[{"purchase_id":"x"}]',
    "a string": b'"{}"',
    "a number": b"42",
    "true": b"true",
    "null": b"null",
    "field missing": b"{}",
    "null for a text": b'{"purchase_id":null}',
    "a number for a text": b'{"purchase_id":7}',
    "an object for an amount": b'{"purchase_id":"x","amount":{"value":1}}',
    "a word for a number": b'{"purchase_id":"x","count":"many"}',
    "a fraction for a whole number": b'{"purchase_id":"x","count":1.5}',
    "a number too large for a float": b'{"purchase_id":"x","count":1e999}',
    "an amount too large for a float": b'{"purchase_id":"x","amount":1e999}',
    "a rounded amount": b'{"purchase_id":"x","amount":0.12345678901234567}',
    "an amount that is no number": b'{"purchase_id":"x","amount":"NaN"}',
    "a whole number beyond 2**53": b'{"purchase_id":"x","count":9007199254740993}',
    "a whole number beyond 2**64": b'{"purchase_id":"x","count":%d}' % 2**64,
    "a whole number of 4000 digits": b'{"purchase_id":"x","count":%s}' % (b"9" * 4000),
    "a key longer than an index can hold": orjson.dumps({"purchase_id": LONG_KEY}),
}
STRUCTURED: dict[str, tuple[bytes, str]] = {
    "structured, not JSON": (b"{", "unreadable"),
    "structured, an array": (b"[]", "unreadable"),
    "structured, null": (b"null", "unreadable"),
    "structured, deep": (b"[" * DEEP, "unreadable"),
    "structured, no specversion": (
        b'{"id":"structured-1","source":"/s","type":"market.PurchaseMade","data":{}}',
        "unreadable",
    ),
    "structured, no data": (
        b'{"specversion":"1.0","id":"structured-2","source":"/s","type":"market.PurchaseMade"}',
        "unreadable",
    ),
    "structured, id is a number": (
        b'{"specversion":"1.0","id":1,"source":"/s","type":"market.PurchaseMade","data":{}}',
        "unreadable",
    ),
    "structured, data is null": (
        b'{"specversion":"1.0","id":"structured-3","source":"/s","type":"market.PurchaseMade","data":null}',
        "invalid",
    ),
    "structured, data does not fit": (
        b'{"specversion":"1.0","id":"structured-4","source":"/s","type":"market.PurchaseMade","data":{"purchase_id":[]}}',
        "invalid",
    ),
}


def bodies() -> Iterator[Bad]:
    """Right envelopes, wrong bodies."""
    for name, value in (NOT_JSON | OTHER_FORM).items():
        headers = headers_of(PurchaseMade(purchase_id="bad"))
        if name == "gzip bomb":
            headers = (*headers, ("content-encoding", b"gzip"))
        reason = "oversized" if name.startswith("a key longer") else "invalid"
        yield dead(f"body: {name}", OutgoingMessage(EVENTS, b"bad", value, headers), reason)
    for name, (value, reason) in STRUCTURED.items():
        headers = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
        yield dead(f"body: {name}", OutgoingMessage(EVENTS, b"bad", value, headers), reason)
    batch = (("content-type", b"application/cloudevents-batch+json"),)
    yield dead("body: a batch of events", OutgoingMessage(EVENTS, b"bad", b"[]", batch), "unreadable")


def sizes() -> Iterator[Bad]:
    """Nothing at all, and too much."""
    headers = headers_of(PurchaseMade(purchase_id="bad"))
    yield dead("size: null value", OutgoingMessage(EVENTS, b"bad", None, headers), "null_value")
    yield dead("size: neither key nor value", OutgoingMessage(EVENTS, None, None, ()), "null_value")
    value = orjson.dumps({"purchase_id": "big", "note": "x" * OVERSIZED})
    yield dead(
        "size: oversized",
        OutgoingMessage(EVENTS, b"big", value, headers_of(PurchaseMade(purchase_id="big"))),
        "oversized",
    )
    many = (*headers, *((f"h{number}", b"") for number in range(65)))
    yield dead("size: 65 further headers", OutgoingMessage(EVENTS, b"bad", b"{}", many), "oversized")


def odd_but_right() -> Iterator[Bad]:
    """What looks like a flaw and is none: these must not be thrown away."""

    def made(name: str, key: str, body: bytes, **headers: bytes | None) -> Bad:
        found = changed(headers_of(PurchaseMade(purchase_id=key)), headers)
        return Bad(f"odd: {name}", OutgoingMessage(EVENTS, key.encode(), body, found), "applied")

    yield made("U+0000 in a text", "odd-1", b'{"purchase_id":"odd-1","note":"a\\u0000b"}')
    yield made("U+0000 in the key", "odd-2", b'{"purchase_id":"odd-2\\u0000x"}')
    yield made("unknown fields", "odd-3", b'{"purchase_id":"odd-3","nobody":{"knows":["this"]}}')
    yield made("a doubled field, of which the last counts", "odd-4", b'{"purchase_id":"odd-x","purchase_id":"odd-4"}')
    yield made("an amount as a short number", "odd-5", b'{"purchase_id":"odd-5","amount":12.50}')
    yield made("no schema", "odd-6", b'{"purchase_id":"odd-6"}', ce_dataschema=None)
    yield made("a schema that is no number", "odd-7", b'{"purchase_id":"odd-7"}', ce_dataschema=b"urn:contract:x:new")
    yield made("a trace that is none", "odd-8", b'{"purchase_id":"odd-8"}', traceparent=b"00-zz-zz-zz")
    yield made("a header of another's that is no UTF-8", "odd-9", b'{"purchase_id":"odd-9"}', x_token=b"\xff\xfe")
    yield made("a time that is none", "odd-10", b'{"purchase_id":"odd-10"}', ce_time=b"yesterday")


def known_but_not_for_us() -> Iterator[Bad]:
    """Types that are known here and that no saga starts on or waits for: what sagas publish comes by, too."""
    for message in (PurchaseDone(purchase_id="x"), Packed(parcel="x")):
        record = OutgoingMessage(EVENTS, b"x", b"not even JSON", headers_of(message))
        yield Bad(f"foreign: {message.wire_name} among events", record, "foreign")


def on_wrong_topics() -> Iterator[Bad]:
    """Right messages in the wrong place."""
    event = EnquiryMade(enquiry_id="misled")
    record = OutgoingMessage("packers.replies", b"x", event.canonical(), headers_of(event))
    yield dead("topic: an event among replies", record, "invalid")
    record = OutgoingMessage("orchestrator.sagas", b"x", event.canonical(), headers_of(event))
    yield dead("topic: an event between sagas", record, "unknown_type")
    start = BeginLeg(leg_id="x")
    value = orjson.dumps({"leg_id": ["x"]})
    yield dead("topic: a start that does not fit", OutgoingMessage(EVENTS, b"x", value, headers_of(start)), "invalid")
