"""What stands in a message's body, read with a named refusal for what is not there.

Rules of this file: nothing is guessed; what cannot be read raises `Flaw` with a reason code and a sentence, which show
no values.
"""

from __future__ import annotations

from typing import Any

import orjson

from orchestrator.broker.contract import IncomingMessage
from orchestrator.kernel.inputs import Parent
from orchestrator.messages.canonical import INTEGER_MAX
from orchestrator.runtime.work import Cause

Texts = dict[str, bytes]


class Flaw(Exception):
    """Why a message cannot be processed: a reason code and a sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


def check_belongs(cause: Cause, *scopes: str) -> None:
    """What is sealed in a message must be of the saga or the event that it is about."""
    if cause.opened is not None and not cause.opened.scopes.issubset(scopes):
        raise Flaw("unauthorised_source", "it holds personal values of another saga")


def version_of(texts: Texts) -> int | None:
    """The contract version that `dataschema` names (`urn:contract:<name>:<version>`), or None."""
    tail = texts.get("ce_dataschema", b"").rpartition(b":")[2]
    return int(tail) if tail.isdigit() else None


def envelope_key(raw: IncomingMessage) -> str:
    """The saga that a message between sagas is for: its key."""
    try:
        saga_id = (raw.key or b"").decode()
    except UnicodeDecodeError:
        saga_id = ""
    if not saga_id:
        raise Flaw("invalid", "a message between sagas needs the saga's id as its key")
    return saga_id


def json_of(value: bytes) -> dict[str, Any]:
    """The JSON object of a body. Raises Flaw."""
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise Flaw("unreadable", f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise Flaw("unreadable", f"a JSON object was expected, a {type(body).__name__} came")
    return body


def text_of(body: dict[str, Any], name: str) -> str:
    """A text that must be there. Raises Flaw."""
    found = body.get(name)
    if not isinstance(found, str) or not found:
        raise Flaw("invalid", f"{name} is missing or no text")
    return found


def number_of(text: Any, name: str) -> int:
    """A whole number. Raises Flaw."""
    try:
        number = int(text)
    except (TypeError, ValueError):
        number = INTEGER_MAX
    if not -INTEGER_MAX < number < INTEGER_MAX:
        raise Flaw("invalid", f"{name} is {text!r:.40}, expected a whole number")
    return number


def parent_of(body: dict[str, Any]) -> Parent:
    """The parent that a message between sagas names. Raises Flaw."""
    found = body.get("parent")
    if not isinstance(found, dict):
        raise Flaw("invalid", "parent is missing")
    return Parent(text_of(found, "saga_id"), text_of(found, "activity"), number_of(found.get("round"), "round"))


def reason_of(value: bytes) -> str:
    """Why a participant said no: the body's `reason`, else nothing; a body of another form is not an error."""
    try:
        body = orjson.loads(value)
    except orjson.JSONDecodeError:
        return ""
    return str(body.get("reason") or body.get("code") or "") if isinstance(body, dict) else ""
