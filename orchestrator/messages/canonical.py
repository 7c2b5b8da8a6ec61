"""Canonical bytes: one value, one byte string.

Rules of this file
- The bytes are those of RFC 8785 (JSON Canonicalization Scheme), so any language can recompute a hash.
- A decimal is a string in one normal form (`1.0` and `1.00` are the same amount, so they are the same bytes).
- An instant is an RFC 3339 string in UTC with microseconds. A float is only for what is not counted (a score); money
  is never a float. NaN, infinities and integers beyond 2**53 are refused: other parsers would read another value.
- Fast path: orjson with sorted keys gives RFC 8785's bytes for ASCII keys and no floats; what has either takes the
  slow path below. Tests judge both against the `rfc8785` package.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import orjson

INTEGER_MAX = 2**53
EXPONENT_FROM = 1e21  # from here on a whole float is written with an exponent

_OPTIONS = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER | orjson.OPT_PASSTHROUGH_DATETIME


class NotCanonicalError(ValueError):
    """The value has no canonical form: NaN, an infinity, an integer beyond 2**53, a lone surrogate, an unknown type."""


def decimal_text(value: Decimal) -> str:
    """The one text of an amount: no exponent, no trailing zeros, no minus zero. Raises NotCanonicalError on NaN."""
    if not value.is_finite():
        raise NotCanonicalError(f"{value} is not an amount: only finite decimals can be stored")
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def instant_text(value: datetime) -> str:
    """An aware datetime as `2026-11-21T09:41:07.000000Z`. Raises NotCanonicalError for a naive one."""
    if value.tzinfo is None:
        raise NotCanonicalError(
            f"{value.isoformat()} has no time zone: write an aware datetime, for example with tzinfo=UTC"
        )
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def canonical_bytes(value: Any) -> bytes:
    """The canonical JSON bytes of a value (dict, list, str, int, bool, None, float, Decimal, datetime, UUID, Enum).

    Raises NotCanonicalError where there is no canonical form. Source: RFC 8785.
    """
    try:
        if _needs_care(value):
            return _write(value).encode("utf-8")
        return orjson.dumps(value, default=_simplify, option=_OPTIONS)
    except (orjson.JSONEncodeError, UnicodeEncodeError, RecursionError) as error:
        if isinstance(error.__cause__, NotCanonicalError):  # orjson hides what `_simplify` said
            raise error.__cause__ from None
        raise NotCanonicalError(f"the value has no canonical form: {error}") from error


def plain(value: Any) -> Any:
    """The value as it will be read back from its canonical bytes: only dict, list, str, int, float, bool and None."""
    return parse(canonical_bytes(value))


def parse(raw: bytes) -> Any:
    """The plain value of canonical bytes."""
    return orjson.loads(raw)


def _simplify(value: Any) -> Any:
    if isinstance(value, Decimal):
        return decimal_text(value)
    if isinstance(value, datetime):
        return instant_text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (set, frozenset)):
        raise NotCanonicalError("a set has no order, so it has no canonical form: use a tuple")
    raise NotCanonicalError(f"a {type(value).__name__} cannot be stored as JSON")


def _needs_care(value: Any) -> bool:
    """True where orjson's bytes could differ from RFC 8785: a float, or a key outside ASCII."""
    kind = type(value)
    if kind is str or kind is int or value is None or kind is bool:
        return False
    if kind is dict:
        return any(type(key) is not str or not key.isascii() or _needs_care(item) for key, item in value.items())
    if kind is list or kind is tuple:
        return any(_needs_care(item) for item in value)
    return kind is float


def _write(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Enum):
        return _write(value.value)
    if isinstance(value, str):
        return orjson.dumps(value).decode()
    if isinstance(value, int):
        if abs(value) >= INTEGER_MAX:
            raise NotCanonicalError(f"{value} is beyond 2**53: other languages would read another number; use a string")
        return str(value)
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise NotCanonicalError("keys of a JSON object are text: use a list of pairs for anything else")
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return "{" + ",".join(f"{_write(key)}:{_write(value[key])}" for key in keys) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_write, value)) + "]"
    if isinstance(value, UUID):
        return _write(str(value))
    return _write(_simplify(value))


def _float_text(value: float) -> str:
    """ECMAScript's Number::toString, which RFC 8785 prescribes.

    A whole number beyond 2**53 is written without a point, so it would be read back as an integer: refused as one.
    """
    if not math.isfinite(value):
        raise NotCanonicalError(f"{value} cannot be stored: JSON has no NaN and no infinity")
    if value.is_integer() and INTEGER_MAX <= abs(value) < EXPONENT_FROM:
        raise NotCanonicalError(f"{value!r} is beyond 2**53: it would be read back as another kind of number")
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    text = "".join(map(str, digits)).rstrip("0")
    point = len(digits) + int(exponent)
    if len(text) <= point <= 21:
        body = text + "0" * (point - len(text))
    elif 0 < point <= 21:
        body = f"{text[:point]}.{text[point:]}"
    elif -6 < point <= 0:
        body = "0." + "0" * -point + text
    else:
        mantissa = text[0] + (f".{text[1:]}" if len(text) > 1 else "")
        body = f"{mantissa}e{'+' if point > 0 else '-'}{abs(point - 1)}"
    return f"-{body}" if sign else body
