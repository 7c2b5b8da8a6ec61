"""Ids that are computed, never drawn: sagas, traces and spans.

Rules of this file: the same cause gives the same id in every process, so a retry after a crash is a duplicate and not a
second saga. Other services may compute a saga's id from what they know.
"""

from __future__ import annotations

import hashlib

from orchestrator.kernel.children import NAMESPACE

TRACE_FLAGS = "01"
_NAMESPACE = NAMESPACE.bytes
_TRACEPARENT_LENGTH = 55


def saga_id_of(tenant: str, name: str, business_key: str, run: str = "") -> str:
    """The id of the saga that this start begins. `run`: source and id of the start event, for sagas with `rerun=True`.

    The same as `kernel.children.saga_id` in a third of its time: uuid.uuid5 without the detour over a UUID object.
    """
    text = f"{tenant}\x1f{name}\x1f{business_key}\x1f{run}"
    digest = bytearray(hashlib.sha1(_NAMESPACE + text.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def trace_id_of(traceparent: str, saga_id: str) -> str:
    """The trace (32 hex digits) that a saga belongs to: the upstream's, or one made of its id."""
    if len(traceparent) >= _TRACEPARENT_LENGTH and traceparent[2] == "-" and traceparent[35] == "-":
        return traceparent[3:35]
    return hashlib.sha256(saga_id.encode()).hexdigest()[:32]


def span_id_of(message_id: str) -> str:
    """The span (16 hex digits) of the record or message with this id (`<saga id>/<version>`)."""
    return hashlib.sha256(message_id.encode()).hexdigest()[:16]


def traceparent_of(trace_id: str, message_id: str) -> str:
    """The W3C trace context of a message: the saga's trace, and a span derived from the message's id."""
    return f"00-{trace_id}-{span_id_of(message_id)}-{TRACE_FLAGS}"
