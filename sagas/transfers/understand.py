"""What a customer's sentence asks for: "Transfer 6000 to Kiran". Deterministic, and it never guesses about money.

Rules of this file
- A sentence asks for exactly one transfer: one amount in figures, and after it one recipient, after "to". Everything
  else is refused with what was not understood and how to say it.
- `6,000`, `6 000` and `6'000` are six thousand; `6.50` and `6,50` are six and a half; `1.250,50` is `1,250.50`. But
  `6.000` is six or six thousand, depending on where one comes from: it is refused, and so is `6k`.
- No currency means EUR. Signs and common names are known; two different currencies in one sentence are refused.

>>> understand("Transfer 6,000 to Kiran")
Wish(amount=Decimal('6000'), currency='EUR', recipient='Kiran')
>>> understand("send 6.000 to Kiran").code
'ambiguous_amount'
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal

TEXT_CHARACTERS_MAX = 500
RECIPIENT_CHARACTERS_MAX = 60
DEFAULT_CURRENCY = "EUR"
AMOUNT_MAX = Decimal(10) ** 12

_CURRENCIES = {
    "EUR": ("eur", "€", "euro", "euros"),
    "USD": ("usd", "$", "us$", "dollar", "dollars"),
    "GBP": ("gbp", "£", "pound", "pounds"),
    "INR": ("inr", "₹", "rs", "rupee", "rupees"),
    "CHF": ("chf", "franc", "francs"),
}
_CURRENCY_OF = {name: code for code, names in _CURRENCIES.items() for name in names}
_NAMES = "|".join(sorted(map(re.escape, _CURRENCY_OF), key=len, reverse=True))
_SPACES = " \u00a0\u202f"

_VERB = re.compile(r"\b(transfer|send|pay|wire|move)\b", re.IGNORECASE)
_WITHDRAW = re.compile(
    r"^(please\s+)?(cancel|stop|withdraw|undo)\b(\s+(it|that|this|the|my|last|transfer|payment|please))*\s*[.!]*$",
    re.IGNORECASE,
)
_NUMBER = re.compile(rf"(?<![\w.,'])-?\d[\d.,'’{_SPACES}]*\d|(?<![\w.,'])-?\d")
_CURRENCY_BEFORE = re.compile(rf"(?<!\w)({_NAMES})\s*$", re.IGNORECASE)
_CURRENCY_AFTER = re.compile(rf"\s*({_NAMES})(?!\w)", re.IGNORECASE)
_MULTIPLE = re.compile(r"\s*(%|(k|m|mio|mn|bn|lakh|crore|hundred|thousand|million|billion)\b)", re.IGNORECASE)
_RECIPIENT = re.compile(r"\bto\b\s*(?P<name>.*)$", re.IGNORECASE | re.DOTALL)
_SEVERAL = re.compile(r"\b(and|or|to|for|from)\b|[,;&]", re.IGNORECASE)
_TAIL = re.compile(r"(\s*,?\s*\b(please|now|today|thanks|thank you)\b)*\s*[.!?]*\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wish:
    """A transfer that somebody asks for."""

    amount: Decimal
    currency: str
    recipient: str


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """The last transfer is no longer wanted."""


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """What could not be understood, as a code and a sentence for the customer."""

    code: str
    text: str


def understand(text: str) -> Wish | Withdrawal | NotUnderstood:
    """What a sentence asks for."""
    sentence = unicodedata.normalize("NFC", text).strip()
    if not sentence or len(sentence) > TEXT_CHARACTERS_MAX:
        return NotUnderstood("no_text", f"Write one sentence of at most {TEXT_CHARACTERS_MAX} characters.")
    if any(unicodedata.category(sign) in ("Cc", "Cf", "Co", "Cs", "Cn") and sign not in "\n\t" for sign in sentence):
        return NotUnderstood("hidden_characters", "The sentence holds invisible characters. Type it anew.")
    if _WITHDRAW.match(sentence):
        return Withdrawal()
    if not _VERB.search(sentence):
        return NotUnderstood("no_intent", 'I can transfer money. Say for example: "Transfer 6000 to Kiran".')
    numbers = list(_NUMBER.finditer(sentence))
    if not numbers:
        return NotUnderstood("no_amount", 'I found no amount. Write it in figures: "Transfer 6000 to Kiran".')
    if len(numbers) > 1:
        found = ", ".join(number.group().strip(_SPACES) for number in numbers)
        return NotUnderstood("two_amounts", f"I found several amounts: {found}. Ask for one transfer at a time.")
    [number] = numbers
    amount, currency = _amount(sentence, number), _currency(sentence, number)
    recipient = _recipient(sentence, number.end())
    for part in (amount, currency, recipient):
        if isinstance(part, NotUnderstood):
            return part
    assert isinstance(amount, Decimal)
    assert isinstance(currency, str)
    assert isinstance(recipient, str)
    return Wish(amount, currency, recipient)


def _amount(sentence: str, number: re.Match[str]) -> Decimal | NotUnderstood:
    figures = number.group().strip(_SPACES)
    if _MULTIPLE.match(sentence, number.end()):
        return NotUnderstood("ambiguous_amount", f"Write {figures} in full, with all its figures.")
    return read_amount(figures)


def _currency(sentence: str, number: re.Match[str]) -> str | NotUnderstood:
    """Only what stands right at the amount is its currency."""
    before, after = _CURRENCY_BEFORE.search(sentence[: number.start()]), _CURRENCY_AFTER.match(sentence, number.end())
    found = {_CURRENCY_OF[match.group(1).lower()] for match in (before, after) if match is not None}
    if len(found) > 1:
        return NotUnderstood("two_currencies", f"Which currency: {' or '.join(sorted(found))}?")
    return found.pop() if found else DEFAULT_CURRENCY


def read_amount(figures: str) -> Decimal | NotUnderstood:
    """An amount of money in figures, or why it cannot be read for certain."""
    plain = figures.replace("’", "'")
    if plain.startswith("-"):
        return NotUnderstood("negative_amount", f"{figures} is less than nothing.")
    whole, fraction = _split(plain)
    if whole is None:
        return NotUnderstood(
            "ambiguous_amount", f"{figures} can be read in two ways. Write it like 6000, 6,000 or 6000.50."
        )
    amount = Decimal(f"{whole}.{fraction}" if fraction else whole)
    if amount == 0:
        return NotUnderstood("no_amount", "The amount is zero.")
    if amount >= AMOUNT_MAX:
        return NotUnderstood("amount_too_large", f"{figures} is more than this bank moves.")
    return amount


def _split(text: str) -> tuple[str | None, str]:
    """Whole part and fraction; None where the text has no one reading."""
    if re.fullmatch(r"\d+", text):
        return text, ""
    if found := re.fullmatch(r"(\d+)[.,](\d{1,2})", text):
        return found[1], found[2]
    for mark, point in ((",", "."), ("'", "."), ("'", ","), *((space, sign) for space in _SPACES for sign in ".,")):
        grouped = rf"(\d{{1,3}}(?:{re.escape(mark)}\d{{3}})+)(?:{re.escape(point)}(\d{{1,2}}))?"
        if found := re.fullmatch(grouped, text):
            return found[1].replace(mark, ""), found[2] or ""
    # Points between groups are thousands only where something else says so: a second group, or a decimal comma.
    if found := re.fullmatch(r"(\d{1,3}(?:\.\d{3})+),(\d{1,2})|(\d{1,3}(?:\.\d{3}){2,})", text):
        return (found[1] or found[3]).replace(".", ""), found[2] or ""
    return None, ""


def _recipient(sentence: str, after: int) -> str | NotUnderstood:
    found = _RECIPIENT.search(sentence, after)
    if found is None:
        if _RECIPIENT.search(sentence):
            return NotUnderstood("unclear_recipient", 'Put the amount before the recipient: "Transfer 6000 to Kiran".')
        return NotUnderstood("no_recipient", 'I found no recipient. Say who gets it: "Transfer 6000 to Kiran".')
    name = _TAIL.sub("", found["name"]).strip().strip("\"'“”")
    if not name:
        return NotUnderstood("no_recipient", 'I found no recipient. Say who gets it: "Transfer 6000 to Kiran".')
    if _SEVERAL.search(name):
        return NotUnderstood("two_recipients", f'"{name}" is more than one name. Ask for one transfer at a time.')
    allowed = all(unicodedata.category(sign)[0] in "LM" or sign in " .'’-" for sign in name)
    if not allowed or len(name) > RECIPIENT_CHARACTERS_MAX:
        return NotUnderstood("unclear_recipient", f'"{name[:RECIPIENT_CHARACTERS_MAX]}" is not a name.')
    return " ".join(name.split())
