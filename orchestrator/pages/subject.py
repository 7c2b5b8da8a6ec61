"""What people decide on, taken apart for the eye: facts with labels, amounts with their currency, titles from names.

Rules of this file
- Nothing is left out, shortened or rounded: what is shown is hashed, and the vote answers for all of it.
- A field's label is its name in plain words. An amount is a number whose name says so, with its currency beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from orchestrator.pages.formats import decimal_of, is_currency

WORD_CHARACTERS_MAX = 40  # of an item of a list that stands in one line with others
DEPTH_MAX = 6
FACTS_MAX = 400

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_AMOUNT = re.compile(r"(^|_)(amount|sum|balance|available|limit|threshold|fee|price|total|value)($|_)")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)")
_INDEX = re.compile(r"\[\d+\]")
_PARTIES = (
    "recipient",
    "payee",
    "beneficiary",
    "customer",
    "customer_name",
    "customer_id",
    "requester",
    "requested_by",
)


@dataclass(frozen=True, slots=True)
class Fact:
    """One labelled value. `level`: how deep it stands."""

    label: str
    kind: Literal["text", "amount", "number", "instant", "flag", "nothing", "heading"]
    value: Any
    currency: str = ""
    path: str = ""
    level: int = 0


@dataclass(frozen=True, slots=True)
class Amount:
    """How much, in which currency; currency "" where none is named."""

    value: str
    currency: str


def title(name: str) -> str:
    """Plain words of a name in code: `on/x/manager_approval`, `transfers.ExecuteTransfer`, `very-large`, `lines[2]`."""
    last = _INDEX.sub("", name).rstrip("/").rpartition("/")[2].rpartition(".")[2]
    words = _WORDS.findall(last)
    return " ".join(word if word.isupper() and len(word) > 1 else word.lower() for word in words) or name


def facts_of(data: object) -> tuple[Fact, ...]:
    """The facts of a JSON value, in its own order."""
    found: list[Fact] = []
    for fact in _facts(data if isinstance(data, Mapping) else {"value": data} if data is not None else {}, "", 0):
        if len(found) == FACTS_MAX:
            break
        found.append(fact)
    return tuple(found)


def _facts(data: Mapping[str, Any], path: str, level: int) -> Iterator[Fact]:
    currency = _currency(data)
    spent = any(_is_amount(name, value, currency) for name, value in data.items())
    for name, value in data.items():
        where = f"{path}/{name}"
        if name == "currency" and spent and currency:
            continue  # it stands with each amount
        yield from _fact(_label(name), name, value, currency, where, level)


def _fact(label: str, name: str, value: object, currency: str, path: str, level: int) -> Iterator[Fact]:
    if isinstance(value, Mapping) and value and level < DEPTH_MAX:
        money = _money(value)
        if money is not None:
            yield Fact(label, "amount", money.value, money.currency, path, level)
            return
        yield Fact(label, "heading", "", path=path, level=level)
        yield from _facts(value, path, level + 1)
    elif isinstance(value, list) and value and level < DEPTH_MAX:
        if all(not isinstance(item, Mapping | list) and len(str(item)) <= WORD_CHARACTERS_MAX for item in value):
            yield Fact(label, "text", ", ".join(map(str, value)), path=path, level=level)
            return
        for number, item in enumerate(value, 1):
            yield from _fact(f"{label} {number}", name, item, currency, f"{path}/{number - 1}", level)
    elif _is_amount(name, value, currency):
        yield Fact(label, "amount", str(value), currency, path, level)
    elif isinstance(value, bool):
        yield Fact(label, "flag", value, path=path, level=level)
    elif value is None or value in ("", [], {}):
        yield Fact(label, "nothing", "", path=path, level=level)
    elif isinstance(value, int | float):
        yield Fact(label, "number", value, path=path, level=level)
    elif isinstance(value, str) and _INSTANT.fullmatch(value):
        yield Fact(label, "instant", datetime.fromisoformat(value), path=path, level=level)
    else:
        yield Fact(label, "text", str(value), path=path, level=level)


def amount_of(shown: object, declared: Mapping[str, str] | None = None) -> Amount | None:
    """The amount that a task is about: what its definition declared, else the first that is shown with a currency."""
    if declared:
        return Amount(str(declared.get("amount", "")), str(declared.get("currency", "")))
    amounts = [fact for fact in facts_of(shown) if fact.kind == "amount"]
    named = [fact for fact in amounts if fact.path.rpartition("/")[2].endswith("amount")]
    best = named or [fact for fact in amounts if fact.currency]
    return Amount(str(best[0].value), best[0].currency) if best else None


def party_of(shown: object) -> str:
    """For whom or to whom, where a field of a usual name says so."""
    if isinstance(shown, Mapping):
        for name in _PARTIES:
            if isinstance(shown.get(name), str) and shown[name]:
                return str(shown[name])
    return ""


def _label(name: str) -> str:
    text = title(name)
    return text[:1].upper() + text[1:]


def _currency(data: Mapping[str, Any]) -> str:
    found = data.get("currency")
    return str(found) if is_currency(found) else ""


def _is_amount(name: str, value: object, currency: str) -> bool:
    if isinstance(value, bool) or decimal_of(value) is None:
        return False
    lowered = name.lower()
    return bool(_AMOUNT.search(lowered)) and bool(currency or lowered.endswith("amount"))


def _money(value: Mapping[str, Any]) -> Amount | None:
    """`{"amount": "5.00", "currency": "EUR"}`."""
    if (
        set(value) == {"amount", "currency"}
        and is_currency(value["currency"])
        and decimal_of(value["amount"]) is not None
    ):
        return Amount(str(value["amount"]), str(value["currency"]))
    return None
