"""From Python lists to PostgreSQL arrays: what a text column cannot hold is made visible instead of failing a batch.

Rules: PostgreSQL's text has no NUL and no lone surrogate, JSON strings may have both. They are written as the text of
their escapes (`\\u0000`), always in the same way, so a key is found again under the same spelling.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from zlib import crc32

SLOTS = 1024
SEQ_BITS = 20
BATCH_RECORDS_MAX = 1 << SEQ_BITS

# The first half of every advisory lock on event keys, so that they never meet somebody else's locks.
EVENT_KEY_LOCKS = 0x5A6A


def texts(values: Sequence[str]) -> Sequence[str]:
    """The values as a text array can hold them; nearly always the very same list."""
    joined = "".join(values)
    if joined.isascii() and "\0" not in joined:
        return values
    return [storable(value) for value in values]


def storable(value: str) -> str:
    """One value as a text column can hold it."""
    return value.replace("\0", "\\u0000").encode("utf-8", "backslashreplace").decode("utf-8")


def slot(saga_id: str) -> int:
    """Which of the 1024 slots a saga's messages belong to; relays share the slots."""
    return crc32(saga_id.encode("utf-8", "backslashreplace")) % SLOTS


def message_key(tenant: str, source: str, id_: str) -> bytes:
    """Under which a message stands in the inbox: 16 bytes; two messages share one with a chance of 2**-128."""
    text = f"{len(tenant)} {len(source)} {tenant}{source}{id_}"
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def lock_buckets(keys: Sequence[tuple[str, str, str]]) -> list[int]:
    """The 32-bit lock numbers of event keys, sorted and without doubles: every batch locks in this order."""
    codes = {crc32("\n".join(key).encode("utf-8", "backslashreplace")) for key in keys}
    return sorted(code - 0x1_0000_0000 if code >= 0x8000_0000 else code for code in codes)


SEPARATOR = "\x1f"


def joined(values: Sequence[str] | Sequence[int]) -> str:
    """A column as one text parameter. A separator inside a value, which no id has, becomes a space."""
    if values and not isinstance(values[0], str):
        return SEPARATOR.join([str(value).lower() for value in values])  # numbers, true and false
    words: Sequence[str] = values  # type: ignore[assignment]
    text = SEPARATOR.join(words)
    if text.count(SEPARATOR) != len(words) - 1 and words:
        text = SEPARATOR.join([word.replace(SEPARATOR, " ") for word in words])
    return text if text.isascii() and "\0" not in text else storable(text)
