"""Numbers in words: what an approver reads beside the digits, so that a zero too many is heard.

English, in the scale that the reader's country counts in, as the grouping of the digits beside it does: thousand and
million, or lakh and crore.
"""

from __future__ import annotations

from decimal import Decimal

WORDS_MAX = Decimal(10) ** 15  # beyond it digits are clearer

_SMALL = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["zero", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_WESTERN = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (10**3, "thousand"))
_INDIAN = ((10**7, "crore"), (10**5, "lakh"), (10**3, "thousand"))
_COUNT_IN_LAKH = frozenset({"IN", "PK", "BD", "NP", "LK"})


def amount_in_words(value: Decimal, territory: str = "") -> str:
    """6000.5 as "six thousand and 50/100"; "" for what is too long to be read. `territory`: IN, GB."""
    if abs(value) >= WORDS_MAX:
        return ""
    whole, rest = divmod(abs(value), 1)
    text = _whole(int(whole), _INDIAN if territory in _COUNT_IN_LAKH else _WESTERN)
    if rest:
        digits = f"{rest.normalize():f}"[2:].ljust(2, "0")
        text += f" and {digits}/1{'0' * len(digits)}"
    return f"minus {text}" if value < 0 else text


def _whole(number: int, scale: tuple[tuple[int, str], ...]) -> str:
    for size, name in scale:
        if number >= size:
            count, rest = divmod(number, size)
            text = f"{_whole(count, scale)} {name}"
            return text if not rest else f"{text} {'and ' if rest < 100 else ''}{_whole(rest, scale)}"
    return _below_thousand(number)


def _below_thousand(number: int) -> str:
    if number >= 100:
        count, rest = divmod(number, 100)
        text = f"{_SMALL[count]} hundred"
        return f"{text} and {_below_thousand(rest)}" if rest else text
    if number >= 20:
        tens, rest = divmod(number, 10)
        return f"{_TENS[tens]}-{_SMALL[rest]}" if rest else _TENS[tens]
    return _SMALL[number]
