"""Personal values: how a sealed one looks, and the door through which models and the kernel meet whoever seals.

Rules of this file
- No cryptography here: a `Sealing` is put in place around a piece of work (`sealing`), and outside it nothing happens.
- Every field marked `Personal[...]` tells the sealing at hand what it holds when its model is read or made. So whatever
  a function computes from it is known to be personal too, wherever it is written.
- A sealed value is a text without spaces, and begins and ends so that it is found in any other text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

PREFIX = "personal:v1:"
TOKEN = re.compile(r"personal:v1:([A-Za-z0-9_-]{16}):([0-9a-f]{16}):([A-Za-z0-9_-]{1,64}):([A-Za-z0-9_-]{38,})\.")
"""Key id, scope, field, nonce with ciphertext; a full stop ends it."""

SUBJECT_KEY = "subjectkey"
"""The attribute in which a message of a saga names the key of its subject."""
_KEY_HEADER = f"ce_{SUBJECT_KEY}"
_KEY = re.compile(rb"[A-Za-z0-9_-]{16}")  # as in a sealed value


class ErasedText(str):
    """What stands for a value that was erased, where people look; it fits any field marked personal."""

    __slots__ = ()


class Sealing(Protocol):
    """Whoever seals what is written in one piece of work."""

    def note(self, value: Any) -> None:
        """This value is personal: a text, or anything that holds texts."""

    def form(self, plain: Any) -> Any:
        """A plain JSON value as it may be written: what is personal in it is sealed."""


_AT_HAND: ContextVar[Sealing | None] = ContextVar("sealing", default=None)


@contextmanager
def sealing(by: Sealing | None) -> Iterator[None]:
    """Puts a sealing in place for as long as the block runs."""
    before = _AT_HAND.set(by)
    try:
        yield
    finally:
        _AT_HAND.reset(before)


def note_personal(value: Any) -> Any:
    """Tells the sealing at hand of a personal value; gives it back as it is."""
    at_hand = _AT_HAND.get()
    if at_hand is not None:
        at_hand.note(value)
    return value


def written_form(plain: Any) -> Any:
    """A plain value as it may be written: the same one where nothing is sealed here."""
    at_hand = _AT_HAND.get()
    return plain if at_hand is None else at_hand.form(plain)


def is_sealed(value: Any) -> bool:
    """Is this one sealed value?"""
    return isinstance(value, str) and value.startswith(PREFIX) and TOKEN.fullmatch(value) is not None


def pseudonym(value: Any) -> Any:
    """What stands for a sealed value where it is only compared: the id of its subject's key. Others are themselves."""
    if isinstance(value, str) and value.startswith(PREFIX):
        found = TOKEN.fullmatch(value)
        return found[1] if found is not None else value
    return value


def broken(text: str) -> str:
    """A text in which nothing looks sealed any more: what somebody typed is opened nowhere."""
    return text.replace(PREFIX, "personal:v-:")


def subject_key(headers: Iterable[tuple[str, bytes | None]]) -> str:
    """The key that a message names, "" for none, or for what cannot be one: nobody asks a database for that."""
    for name, value in headers:
        if name == _KEY_HEADER:
            return value.decode() if value and _KEY.fullmatch(value) else ""
    return ""


def key_ids(text: str) -> set[str]:
    """The ids of the keys under which something in this text is sealed."""
    return {found[1] for found in TOKEN.finditer(text)} if PREFIX in text else set()
