"""Amounts, times, words and odd characters, as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import unescape
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.pages.formats import Reader, decimal_of
from orchestrator.pages.inbox import Filter, _has_amount, amount_typed
from orchestrator.pages.odd_text import marked
from orchestrator.pages.subject import Amount, amount_of, facts_of, party_of, title
from orchestrator.pages.task_facts import changes
from orchestrator.pages.wording import amount_in_words
from tests.pages.rendered import task

NOW = datetime(2026, 11, 20, 9, 41, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("locale", "value", "currency", "text"),
    [
        ("en_GB", "6000.00", "INR", "6,000.00"),
        ("en_IN", "123456.5", "INR", "1,23,456.50"),
        ("de_DE", "1234567.8", "EUR", "1.234.567,80"),
        ("en_GB", "100", "JPY", "100"),
        ("en_GB", "12.345", "USD", "12.345"),
        ("en_GB", "1.5", "KWD", "1.500"),
        ("en_GB", "-5", "USD", "−5.00 (debit)"),
        ("en_GB", "0.5", "", "0.5"),
        ("en_GB", "99999999999999999999.99", "EUR", "99,999,999,999,999,999,999.99"),
        ("en_GB", "9" * 60, "EUR", "9" * 60),
        ("en_GB", "six", "EUR", "six"),
        ("en_GB", "NaN", "EUR", "NaN"),
        ("en_GB", "１２３", "EUR", "１２３"),
    ],
)
def test_an_amount_keeps_all_its_digits(locale: str, value: str, currency: str, text: str) -> None:
    """The currency's minor units at least, nothing rounded, nothing shortened; what is no number stays as it is."""
    assert Reader(locale).amount(value, currency) == text


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12))
def test_no_amount_is_ever_rounded(value: Decimal) -> None:
    """What is read back from the page is the value."""
    text = Reader("en_GB").amount(str(value), "USD").replace(",", "").replace(" (debit)", "").replace("−", "-")
    assert Decimal(text) == value


@pytest.mark.parametrize(
    ("value", "territory", "words"),
    [
        ("6000", "DE", "six thousand"),
        ("100000", "IN", "one lakh"),
        ("12345678", "IN", "one crore twenty-three lakh forty-five thousand six hundred and seventy-eight"),
        ("1000001", "US", "one million and one"),
        ("0.05", "US", "zero and 05/100"),
        ("12.345", "US", "twelve and 345/1000"),
        ("-21", "US", "minus twenty-one"),
        ("1e20", "US", ""),
    ],
)
def test_amounts_in_words(value: str, territory: str, words: str) -> None:
    """A zero too many is heard."""
    assert amount_in_words(Decimal(value), territory) == words


def test_words_count_as_the_digits_beside_them_are_grouped() -> None:
    """12,50,000 is twelve lakh fifty thousand; 1,250,000 is one million two hundred and fifty thousand."""
    indian, british = Reader("en_IN"), Reader("en_GB")
    assert (indian.amount("1250000", "INR"), indian.words("1250000")) == ("12,50,000.00", "twelve lakh fifty thousand")
    assert british.amount("1250000", "INR") == "1,250,000.00"
    assert british.words("1250000") == "one million two hundred and fifty thousand"


def test_times_are_told_in_the_readers_zone() -> None:
    """Short where there is no doubt, in full beside it, relative by the server's clock."""
    reader = Reader("en_GB", "Asia/Kolkata", NOW)
    assert (reader.when(NOW), reader.zone_name()) == ("15:11", "IST")
    assert reader.exact(NOW) == "20 November 2026 15:11:07 IST (UTC+0530)"
    assert reader.when(NOW + timedelta(days=3)) == "Mon 23 Nov 15:11"
    assert reader.when(NOW + timedelta(days=400)) == "25 Dec 2027 15:11"
    assert reader.ago(NOW - timedelta(minutes=72)) == "1 h 12 min ago"
    assert reader.ago(NOW + timedelta(days=2, hours=4)) == "in 2 d 4 h"
    assert Reader("nonsense", "Mars/Olympus", NOW).clock(NOW) == "09:41:07"


@pytest.mark.parametrize(
    ("text", "is_marked"),
    [
        ("Kiran N.", False),
        ("Ünïcode é 日本 Привет مرحبا", False),
        ("Kir\u0430n", True),  # a Cyrillic letter among Latin ones
        ("\u202egnp.exe", True),
        ("zero\u200bwidth", True),
        ("soft\u00adhyphen", True),
        ("\uff15000", True),
        ("bell\x07", True),
        ("line\u2028break", True),
        ("wide\u3000space", True),
        ("\U0001d4a6iran", True),
        ("plain\nlines\tand tabs", False),
    ],
)
def test_what_would_not_be_seen_is_marked(text: str, is_marked: bool) -> None:
    """And nothing that people simply write."""
    assert ('class="odd"' in marked(text)) is is_marked


@given(st.text())
def test_marked_text_is_always_escaped_and_complete(text: str) -> None:
    """No tag of a stranger's; every character that can be seen is still there."""
    html = str(marked(text))
    inner = html.removeprefix("<bdi>").removesuffix("</bdi>").replace('<span class="odd">', "").replace("</span>", "")
    assert "<" not in inner
    assert ">" not in inner
    assert all(sign in unescape(html) for sign in text if sign.isascii() and sign.isprintable())


def test_a_giant_text_says_how_long_it_is() -> None:
    """A million characters do not hide the rest of the page, and nobody takes the part for the whole."""
    html = marked("1" * 1_000_000)
    assert len(html) < 30_000
    assert "1,000,000 characters" in html


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("manager_approval", "manager approval"),
        ("lines[2]/validate_transfer.scope", "scope"),
        ("transfers.ExecuteTransfer", "execute transfer"),
        ("very-large", "very large"),
        ("scope/on/reject/fail", "fail"),
        ("bank.payments.approval_granted", "approval granted"),
        ("KYCCheck", "KYC check"),
    ],
)
def test_names_in_code_become_words(name: str, words: str) -> None:
    """People never read an underscore."""
    assert title(name) == words


def test_facts_leave_nothing_out() -> None:
    """Nested values, lists, empty ones; the currency stands with its amounts."""
    shown = {
        "amount": "6000.00", "currency": "INR", "count": 3, "ok": True, "none": None, "at": "2026-01-01T00:00:00Z",
        "parties": [{"name": "a"}, {"name": "b"}], "fee": {"amount": "1.00", "currency": "EUR"}, "tags": ["x", "y"],
    }  # fmt: skip
    found = [(fact.label, fact.kind, str(fact.value), fact.currency, fact.level) for fact in facts_of(shown)]
    assert found == [
        ("Amount", "amount", "6000.00", "INR", 0),
        ("Count", "number", "3", "", 0),
        ("Ok", "flag", "True", "", 0),
        ("None", "nothing", "", "", 0),
        ("At", "instant", "2026-01-01 00:00:00+00:00", "", 0),
        ("Parties 1", "heading", "", "", 0),
        ("Name", "text", "a", "", 1),
        ("Parties 2", "heading", "", "", 0),
        ("Name", "text", "b", "", 1),
        ("Fee", "amount", "1.00", "EUR", 0),
        ("Tags", "text", "x, y", "", 0),
    ]
    assert amount_of(shown) == Amount("6000.00", "INR")
    assert amount_of({"threshold": "5"}) is None
    assert party_of({"recipient": "Kiran"}) == "Kiran"


def test_a_list_of_sentences_is_read_one_by_one() -> None:
    """Joined with commas, nobody would see where one ends."""
    said = ["The statement shows two charges for one purchase.", "The shop has confirmed it by telephone."]
    found = [(fact.label, fact.value) for fact in facts_of({"earlier": said})]
    assert found == [("Earlier 1", said[0]), ("Earlier 2", said[1])]


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20))  # fmt: skip # noqa: E501
def test_anything_can_be_shown(value: Any) -> None:
    """Whatever JSON a definition shows, a page does not fail over it."""
    assert len(facts_of(value)) <= 400
    changes(value, {"a": 1})


def test_changes_are_told_field_by_field() -> None:
    """What is new, what is gone, what is other; and the same in another currency is other."""
    found = changes({"amount": "5", "currency": "EUR", "old": "x"}, {"amount": "5", "currency": "USD", "new": "y"})
    assert [(each.label, each.before is None, each.now is None) for each in found] == [
        ("Amount", False, False), ("New", True, False), ("Old", False, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1250", "1250"),
        ("1,250.50", "1250.50"),
        ("1 250", "1250"),
        ("1,250,000", "1250000"),
        ("1,25", None),
        ("x", None),
    ],
)
def test_typed_amounts_are_taken_only_without_doubt(text: str, value: str | None) -> None:
    """1,25 may be either of two numbers."""
    assert amount_typed(text) == (None if value is None else decimal_of(value))


def test_amount_filters_compare_numbers_and_currencies() -> None:
    """Not texts: 6000 lies between 900 and 10000."""
    assert _has_amount(task(), Filter(least="900", most="10000", currency="INR"))
    assert not _has_amount(task(), Filter(least="6000.01"))
    assert not _has_amount(task(), Filter(currency="EUR"))
