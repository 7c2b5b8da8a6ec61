"""Message headers as one column: a JSON list of [name, value] pairs, whose values may be any bytes.

Rules: order and duplicates are kept. A value is written as text whose characters are its bytes (Latin-1), so whatever
came in comes out, and ASCII, which is nearly everything, reads as itself in the database.
"""

from __future__ import annotations

from collections.abc import Iterable

import orjson

Headers = tuple[tuple[str, bytes], ...]


def pack(headers: Iterable[tuple[str, bytes | None]]) -> bytes:
    """One column's bytes. A header without a value (Kafka allows null) becomes an empty one."""
    pairs = [(name, value.decode("latin-1") if value else "") for name, value in headers]
    try:
        return orjson.dumps(pairs)
    except orjson.JSONEncodeError:  # a name with lone surrogates: nothing that a person could type
        return orjson.dumps([(name.encode("utf-8", "backslashreplace").decode(), value) for name, value in pairs])


def unpack(packed: bytes) -> Headers:
    """The headers again."""
    return tuple((name, value.encode("latin-1")) for name, value in orjson.loads(packed))
