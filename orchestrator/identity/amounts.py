"""Amounts in what is shown to somebody who decides: found by name and by shape, whatever a definition calls them.

Rules of this file
- It errs on the large side: what is called an amount and cannot be read counts as large, and of two readings of a text
  ("1.500", "1,500") the larger one does. A sign-in too many costs a minute.
- A definition that says `amount=` is believed beside this, never instead of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from babel.numbers import list_currencies

SHOWN_VALUES_MAX = 20_000  # looked at for amounts; what is larger counts as large
TEXT_CHARACTERS_MAX = 60  # of a text that may be an amount
LARGE = Decimal("Infinity")

_NAMED = re.compile(r"(^|[a-z_\-])amounts?$|^amounts?([A-Z_\-]|$)|Amounts?([A-Z]|$)")
_CURRENCY_NAMES = ("currency", "ccy", "currencyCode", "currency_code")
_SIGNS = {"€": "EUR", "£": "GBP", "₹": "INR", "$": "", "¥": ""}
_CODES = frozenset(list_currencies())
_FIGURE = r"[-+]?\(?\d[\d.,'\u2019\u00a0\u202f _]*\)?"
_MONEY = re.compile(
    rf"(?:(?P<before>[A-Z]{{3}}|[€£₹$¥])\s?)?(?P<figure>{_FIGURE})(?:\s?(?P<after>[A-Z]{{3}}|[€£₹$¥]))?"
)
_GROUPS = str.maketrans("", "", "'\u2019\u00a0\u202f _()+-")


def amounts(shown: Any) -> Iterator[tuple[str, Decimal]]:
    """(currency, amount) of everything in what is shown that is one; currency "" where none is named.

    An amount is: what is called one, a number beside a currency, and a text like "5,000.00 EUR" wherever it stands.
    """
    waiting: list[tuple[Any, str, bool]] = [(shown, "", False)]
    seen = 0
    while waiting and seen < SHOWN_VALUES_MAX:
        (value, currency, called), seen = waiting.pop(), seen + 1
        if isinstance(value, Mapping):
            own = _currency_of(value)
            for name, part in value.items():
                waiting.append(
                    (part, own or currency, _is_called(str(name)) or (called and name not in _CURRENCY_NAMES))
                )
                if own and not _is_called(str(name)):
                    yield from _beside(part, own)
        elif isinstance(value, (list, tuple)):
            waiting += [(part, currency, called) for part in value]
        elif called:
            yield from _called(value, currency)
        elif isinstance(value, str):
            yield from _in_words(value)
    if waiting:
        yield "", LARGE


def _called(value: Any, currency: str) -> Iterator[tuple[str, Decimal]]:
    """The amount that something says it is; large where nobody can tell how much."""
    if value is None or isinstance(value, bool) or value == "":
        return
    if isinstance(value, str):
        yield next(_in_words(value, bare=True, currency=currency), (currency, LARGE))
    else:
        yield currency, _decimal(value)


def _beside(value: Any, currency: str) -> Iterator[tuple[str, Decimal]]:
    """A number in an object that has a currency. A text of digits alone is rather an account."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number or (isinstance(value, str) and re.fullmatch(r"[-+]?\d+\.\d{1,6}", value)):
        yield currency, _decimal(value)


def _in_words(text: str, *, bare: bool = False, currency: str = "") -> Iterator[tuple[str, Decimal]]:
    """An amount with its currency in one text; `bare`: without one too, `currency` being that beside it."""
    text = text.strip()
    found = _MONEY.fullmatch(text) if len(text) <= TEXT_CHARACTERS_MAX else None
    if found is None:
        if bare and re.fullmatch(r"[-+]?[\d.]+[eE][-+]?\d+", text):
            yield currency, _decimal(text)
        return
    sign = found["before"] or found["after"] or ""
    if bare or sign in _SIGNS or sign in _CODES:  # PAY-100234 is no money
        yield _SIGNS.get(sign, sign) or currency, _figure(found["figure"])


def _figure(text: str) -> Decimal:
    """The larger reading of a figure whose one separator may mean thousands or the point."""
    plain = text.translate(_GROUPS)
    marks = [mark for mark in plain if mark in ".,"]
    if len(set(marks)) == 2:  # the last one is the point
        point = marks[-1]
        return _decimal(plain.replace("," if point == "." else ".", "").replace(point, "."))
    if len(marks) == 1 and not re.search(r"[.,]\d{3}$", plain):
        return _decimal(plain.replace(",", "."))
    return _decimal(plain.replace(",", "").replace(".", ""))


def _currency_of(value: Mapping[str, Any]) -> str:
    found = next((value[name] for name in _CURRENCY_NAMES if isinstance(value.get(name), str)), "")
    return str(found)


def _is_called(name: str) -> bool:
    return _NAMED.search(name) is not None


def _decimal(value: Any) -> Decimal:
    try:
        amount = abs(Decimal(str(value)))
    except InvalidOperation:
        return LARGE
    return amount if amount.is_finite() else LARGE
