"""Rule 33: one value, one byte string, judged by an independent implementation of RFC 8785."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.messages import NotCanonicalError, canonical_bytes, plain
from orchestrator.messages.canonical import EXPONENT_FROM, INTEGER_MAX, decimal_text, instant_text

TEXT = st.text(st.characters(codec="utf-8"))
WHOLE = st.integers(-INTEGER_MAX + 1, INTEGER_MAX - 1)


def is_writable(value: float) -> bool:
    """Not a whole number that would be read back as an integer beyond 2**53."""
    return not (value.is_integer() and INTEGER_MAX <= abs(value) < EXPONENT_FROM)


FLOAT = st.floats(allow_nan=False, allow_infinity=False).filter(is_writable)
JSON = st.recursive(
    st.none() | st.booleans() | WHOLE | FLOAT | TEXT,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=20,
)


@given(JSON)
@settings(max_examples=300)
@example({"\U0001f600": 1, "\ufb33": 2})  # sorted by UTF-16 units, not by code points
@example({"€": 1, "\r": 2, "דּ": 3, "1": 4, "\x80": 5, "ö": 6})
@example([333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001, -0.0])
@example({"a": [{"b": 1.5}, {"ä": None}]})
def test_the_bytes_are_those_of_rfc_8785(value: Any) -> None:
    """Any language can recompute a hash."""
    assert canonical_bytes(value) == rfc8785.dumps(value)


@given(FLOAT)
@settings(max_examples=800)
@example(5e-324)
@example(1.7976931348623157e308)
@example(1e21)
@example(1e-7)
@example(0.000001)
@example(9007199254740991.0)
def test_a_float_takes_the_form_of_ecmascript(value: float) -> None:
    """RFC 8785, section 3.2.2.3: only for what is not counted."""
    assert canonical_bytes([value]) == rfc8785.dumps([value])


@given(JSON)
@settings(max_examples=300)
def test_what_was_read_back_has_the_same_bytes(value: Any) -> None:
    """A record that is stored, read and hashed again has the same hash."""
    assert canonical_bytes(plain(value)) == canonical_bytes(value)
    assert canonical_bytes(json.loads(canonical_bytes(value))) == canonical_bytes(value)


@given(st.dictionaries(TEXT, WHOLE, min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_the_order_in_which_keys_were_written_does_not_matter(value: dict[str, int], random: Any) -> None:
    """Sorted, by UTF-16 units."""
    items = list(value.items())
    random.shuffle(items)
    assert canonical_bytes(dict(items)) == canonical_bytes(value)


@pytest.mark.parametrize(
    ("one", "other"), [("1.0", "1.00"), ("10", "1E+1"), ("0", "-0"), ("0.10", "0.1"), ("-2.50", "-2.5"), ("0E-8", "0")]
)
def test_equal_amounts_have_equal_bytes(one: str, other: str) -> None:
    """Rule 33: decimals are strings in one normal form."""
    assert canonical_bytes(Decimal(one)) == canonical_bytes(Decimal(other))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=6))
def test_an_amount_survives_its_text(value: Decimal) -> None:
    """Rule 33: nothing is rounded, and there is no exponent."""
    text = decimal_text(value)
    assert Decimal(text) == value
    assert "e" not in text.lower()


@given(st.decimals(allow_nan=False, allow_infinity=False), st.decimals(allow_nan=False, allow_infinity=False))
def test_amounts_have_the_same_bytes_only_if_they_are_equal(one: Decimal, other: Decimal) -> None:
    """Rule 33."""
    assert (decimal_text(one) == decimal_text(other)) == (one == other)


@pytest.mark.parametrize("amount", ["NaN", "Infinity", "-Infinity", "sNaN"])
def test_what_is_no_amount_is_refused(amount: str) -> None:
    """Rule 33."""
    with pytest.raises(NotCanonicalError, match="not an amount"):
        canonical_bytes({"amount": Decimal(amount)})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinities_are_refused_at_any_depth(value: float) -> None:
    """Rule 33: JSON has none."""
    for inside in (value, [value], {"a": [{"b": value}]}, {"ä": value}):
        with pytest.raises(NotCanonicalError):
            canonical_bytes(inside)


@pytest.mark.parametrize("value", [INTEGER_MAX, -INTEGER_MAX, INTEGER_MAX + 1, 2**63, 10**30, -(10**30)])
def test_integers_beyond_two_to_the_53rd_are_refused(value: int) -> None:
    """Rule 33: other parsers would read another number; on the fast path and on the careful one."""
    for inside in (value, [value], {"a": value}, {"ä": value}, [0.5, value]):
        with pytest.raises(NotCanonicalError):
            canonical_bytes(inside)


@pytest.mark.parametrize("value", [INTEGER_MAX - 1, -INTEGER_MAX + 1, 0])
def test_integers_up_to_two_to_the_53rd_are_exact(value: int) -> None:
    """Rule 33: both paths agree."""
    assert canonical_bytes([value]) == canonical_bytes([value, 0.5]).replace(b",0.5", b"") == f"[{value}]".encode()


@pytest.mark.parametrize("value", [9007199254740992.0, -1e16, 999999999999999900000.0])
def test_whole_floats_beyond_two_to_the_53rd_are_refused_like_integers(value: float) -> None:
    """Rule 33: written without a point, they would be read back as integers that have no canonical form."""
    with pytest.raises(NotCanonicalError, match="2\\*\\*53"):
        canonical_bytes({"score": value})
    assert canonical_bytes([1e21]) == b"[1e+21]"


def test_lone_surrogates_are_refused() -> None:
    """They have no UTF-8."""
    for inside in ("\ud800", ["\udfff"], {"a": "\ud800"}, {"\ud800": 1}, [0.5, "\ud800"]):
        with pytest.raises(NotCanonicalError):
            canonical_bytes(inside)


def test_a_set_is_refused_because_it_has_no_order() -> None:
    """Two processes would write other bytes."""
    for inside in ({1, 2}, [frozenset({1})], {"ä": {1}}):
        with pytest.raises(NotCanonicalError, match="a set has no order"):
            canonical_bytes(inside)


def test_what_cannot_be_stored_is_refused_by_name() -> None:
    """The error names the type."""
    with pytest.raises(NotCanonicalError, match="object"):
        canonical_bytes([object()])
    with pytest.raises(NotCanonicalError):
        canonical_bytes({1: "a key that is no text"})


def test_endless_nesting_is_refused_and_not_a_crash() -> None:
    """A recursion limit is a named error."""
    value: list[Any] = []
    value.append(value)
    with pytest.raises(NotCanonicalError):
        canonical_bytes(value)


class Colour(Enum):
    """An enum of text."""

    RED = "red"


class Number(Enum):
    """An enum of numbers."""

    ONE = 1


@pytest.mark.parametrize("careful", [False, True])
def test_python_values_have_one_text(careful: bool) -> None:
    """Instants in UTC with microseconds, UUIDs, enums, dates, tuples; the same on both paths."""
    value = {
        "at": datetime(2026, 1, 5, 10, 0, 0, 1, tzinfo=timezone(timedelta(hours=1))),
        "day": date(2026, 1, 5),
        "id": UUID(int=1),
        "colour": Colour.RED,
        "number": Number.ONE,
        "pair": (1, Decimal("1.10")),
    }
    expected = (
        b'{"at":"2026-01-05T09:00:00.000001Z","colour":"red","day":"2026-01-05",'
        b'"id":"00000000-0000-0000-0000-000000000001","number":1,"pair":[1,"1.1"]'
    )
    written = canonical_bytes({**value, "z": 0.5} if careful else value)
    assert written == expected + (b',"z":0.5}' if careful else b"}")


def test_the_same_instant_has_the_same_bytes_in_every_zone() -> None:
    """Rule 33."""
    here = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    assert canonical_bytes(here) == canonical_bytes(here.astimezone(timezone(timedelta(hours=9))))


def test_an_instant_without_a_zone_is_refused() -> None:
    """Nobody could say when it was."""
    with pytest.raises(NotCanonicalError, match="time zone"):
        instant_text(datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(NotCanonicalError):
        canonical_bytes({"at": datetime(2026, 1, 1)})  # noqa: DTZ001


def test_keys_of_both_paths_are_sorted_alike() -> None:
    """A float or a key outside ASCII must not change the order of the others."""
    value = {"b": 1, "a": 2, "B": 3, "_": 4, "aa": 5}
    fast = canonical_bytes(value)
    assert canonical_bytes({**value, "~~": 0.5}).startswith(fast[:-1])
