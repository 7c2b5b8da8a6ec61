"""Replies and messages between sagas that are about nobody, about the wrong thing, or from the wrong place.

They are about two sagas that really wait: `enquiry` of key `asked` (its step `ask` to the oracles, who never answer)
and `journey` of key `begun` (its call `first_leg`). After all of these, both must still wait, unmoved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from typing import Any

import orjson

from orchestrator.broker.contract import OutgoingMessage
from orchestrator.messages import Contract, Done, Envelope
from orchestrator.messages.envelope import schema_urn
from orchestrator.messages.protocol import ANSWER_TYPE, START_TYPE, UNWIND_TYPE
from orchestrator.runtime.identity import saga_id_of
from tests.runtime.corpus.market import Answered, EnquiryMade, JourneyBegun, Packed
from tests.runtime.corpus.record import EVENTS, SAGAS, Bad, changed, dead, headers_of

ENQUIRY = saga_id_of("main", "enquiry", "asked")
JOURNEY = saga_id_of("main", "journey", "begun")
NOBODY = saga_id_of("main", "enquiry", "nobody")
LEG = saga_id_of("main", "leg", "forged")
HUGE = b"9" * 400


def waiting() -> Iterator[Bad]:
    """The two sagas that all of this is about."""
    for key, message in (("asked", EnquiryMade(enquiry_id="asked")), ("begun", JourneyBegun(journey_id="begun"))):
        record = OutgoingMessage(EVENTS, key.encode(), message.canonical(), headers_of(message))
        yield Bad(f"start: {key}", record, "applied")


def reply(
    changes: Mapping[str, bytes | None], data: Contract | bytes | None = None, topic: str = "oracles.replies"
) -> OutgoingMessage:
    """The reply that `ask` waits for, broken in one place."""
    found = Answered(text="forty-two") if data is None else data
    named = found if isinstance(found, Contract) else Answered(text="")
    right = headers_of(
        named,
        correlationid=ENQUIRY, activity="ask", round="1", attempt="1", purpose="do", outcome="ok",
        participant="oracles",
    )  # fmt: skip
    value = found.canonical() if isinstance(found, Contract) else found
    return OutgoingMessage(topic, ENQUIRY.encode(), value, changed(right, changes))


def replies() -> Iterator[Bad]:
    """To `ask`, which never gets a right one."""
    for name in ("correlationid", "activity", "round", "attempt", "purpose", "outcome"):
        yield dead(f"reply: no {name}", reply({f"ce_{name}": None}), "invalid")
    for name in ("round", "attempt"):
        for text in (b"one", b"1.0", b"", b"0x1"):
            yield dead(f"reply: {name} {text.decode()!r}", reply({f"ce_{name}": text}), "invalid")
    yield dead("reply: unknown saga", reply({"ce_correlationid": NOBODY.encode()}), "unknown_saga")
    yield dead("reply: saga id with U+0000", reply({"ce_correlationid": b"a\x00\x1fb"}), "unknown_saga")
    yield dead("reply: saga id is no UTF-8", reply({"ce_correlationid": b"\xff"}), "unreadable")
    yield dead("reply: unknown step", reply({"ce_activity": b"nonsense"}), "unknown_activity")
    yield dead("reply: a step of another round of brackets", reply({"ce_activity": b"ask[7]/ask"}), "unknown_activity")
    yield dead("reply: unknown purpose", reply({"ce_purpose": b"wish"}), "invalid")
    yield dead("reply: unknown outcome", reply({"ce_outcome": b"perhaps"}), "invalid")
    yield dead("reply: an outcome of a fence to a do", reply({"ce_outcome": b"not_done"}), "invalid")
    yield dead("reply: to an undo that nobody asked", reply({"ce_purpose": b"undo"}, Done()), "unauthorised_source")
    yield dead("reply: another type", reply({}, Packed(parcel="p")), "invalid")
    yield dead(
        "reply: a type that is no reply",
        reply({"ce_type": b"market.EnquiryMade"}, EnquiryMade(enquiry_id="x")),
        "invalid",
    )
    yield dead("reply: an unknown type", reply({"ce_type": b"market.Nonsense"}), "unknown_type")
    yield dead("reply: not JSON", reply({}, b"{"), "invalid")
    yield dead("reply: does not fit", reply({}, b'{"text":7}'), "invalid")
    yield dead("reply: null value", OutgoingMessage("oracles.replies", b"x", None, reply({}).headers), "null_value")
    yield dead("reply: of another tenant", reply({"ce_tenant": b"strangers"}), "wrong_tenant")
    yield dead("reply: from another's topic", reply({}, topic="packers.replies"), "unauthorised_source")
    yield dead(
        "reply: from another's topic, silent",
        reply({"ce_participant": None}, topic="packers.replies"),
        "unauthorised_source",
    )
    yield dead("reply: under another's name", reply({"ce_participant": b"packers"}), "unauthorised_source")
    yield dead("reply: a fence in doubt until some day", _in_doubt(b"some day"), "invalid")


def numbers() -> Iterator[Bad]:
    """Rounds and attempts that never were: nothing moves, and nothing breaks."""
    for name, text in {"of the future": b"77", "below zero": b"-1"}.items():
        yield Bad(f"reply: a round {name}", reply({"ce_round": text}), "applied")  # recorded as late, and that is all
    yield dead("reply: a round of 400 digits", reply({"ce_round": HUGE}), "invalid")


def _in_doubt(until: bytes) -> OutgoingMessage:
    return reply({"ce_purpose": b"fence", "ce_outcome": b"in_doubt", "ce_until": until})


def between(type_: str, body: Any, key: bytes | None = JOURNEY.encode()) -> OutgoingMessage:
    """A message between sagas."""
    envelope = Envelope(
        id=f"between-{hash_of(type_, body, key)}", source="/sagas", type=type_, dataschema=schema_urn(type_, 1)
    )
    value = body if isinstance(body, bytes) else orjson.dumps(body)
    return OutgoingMessage(SAGAS, key, value, envelope.headers())


def hash_of(*values: Any) -> str:
    """A short name that is the same in every run."""
    return sha256(repr(values).encode()).hexdigest()[:16]


PARENT: dict[str, Any] = {"saga_id": JOURNEY, "activity": "first_leg", "round": 1}
START: dict[str, Any] = {
    "saga": "leg",
    "version": 1,
    "business_key": "forged",
    "type": "market.BeginLeg",
    "data": {"leg_id": "forged"},
}


def children() -> Iterator[Bad]:
    """Starts, undos and answers of children with broken parents, and of children that are none."""
    broken: dict[str, Any] = {
        "none": None,
        "a text": "me",
        "an array": [JOURNEY],
        "without a saga": {"activity": "first_leg", "round": 1},
        "a round that is no number": PARENT | {"round": "first"},
        "a saga that is no text": PARENT | {"saga_id": 7},
    }
    for name, parent in broken.items():
        for kind in (START_TYPE, UNWIND_TYPE):
            message = between(kind, START | {"parent": parent}, LEG.encode())
            yield dead(f"child: {kind.partition('.')[2]}, parent {name}", message, "invalid")
    right = START | {"parent": PARENT}
    yield dead("child: not JSON", between(START_TYPE, b"{", LEG.encode()), "unreadable")
    yield dead("child: an array", between(START_TYPE, b"[]", LEG.encode()), "unreadable")
    yield dead("child: no key", between(START_TYPE, right, None), "invalid")
    yield dead("child: a key that is no UTF-8", between(START_TYPE, right, b"\xff"), "invalid")
    yield dead(
        "child: a version that is no number", between(START_TYPE, right | {"version": "new"}, LEG.encode()), "invalid"
    )
    yield dead(
        "child: starts on something else",
        between(START_TYPE, right | {"type": "market.PurchaseMade"}, LEG.encode()),
        "invalid",
    )
    yield dead(
        "child: data does not fit", between(START_TYPE, right | {"data": {"leg_id": []}}, LEG.encode()), "invalid"
    )
    lost = right | {"saga": "nonsense", "parent": PARENT | {"saga_id": NOBODY}}
    asked = right | {"type": "orchestrator.ActivateDefinition"}
    yield dead("child: a request for a version", between(START_TYPE, asked, LEG.encode()), "unauthorised_source")
    yield dead("child: unknown saga, unknown parent", between(START_TYPE, lost, b"lost"), "unknown_saga")
    orphan = right | {"parent": PARENT | {"saga_id": NOBODY}}
    yield dead("child: a parent that is nowhere", between(START_TYPE, orphan, LEG.encode()), "unknown_saga")
    answer: dict[str, Any] = {"activity": "first_leg", "round": 1, "outcome": "completed", "data": None}
    changes: dict[str, dict[str, Any]] = {
        "no activity": {"activity": None},
        "a round that is no number": {"round": []},
        "unknown outcome": {"outcome": "perhaps"},
        "an outcome that is no text": {"outcome": ["completed"]},
    }
    for name, change in changes.items():
        yield dead(f"answer: {name}", between(ANSWER_TYPE, answer | change), "invalid")
    yield dead("answer: not JSON", between(ANSWER_TYPE, b"\x00"), "unreadable")
    yield dead("answer: unknown parent", between(ANSWER_TYPE, answer, NOBODY.encode()), "unknown_saga")
    yield dead("answer: no key", between(ANSWER_TYPE, answer, b""), "invalid")
    yield Bad("answer: unknown call", between(ANSWER_TYPE, answer | {"activity": "nonsense"}), "refused")
    yield Bad("answer: of a round that never was", between(ANSWER_TYPE, answer | {"round": 77}), "refused")
