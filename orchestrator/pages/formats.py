"""How people read values: amounts, instants and durations in the reader's locale and time zone.

Rules of this file
- Amounts are decimal texts from end to end, with the ISO code and never a symbol; nothing is ever shortened or rounded.
- An instant is shown in the reader's zone with its abbreviation; relative times are told by the server's clock.
- What cannot be read as a number or an instant is shown as it is: a page never fails over a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import Locale, UnknownLocaleError
from babel.dates import format_datetime, format_time
from babel.numbers import format_decimal, get_currency_precision, list_currencies, parse_pattern

from orchestrator.pages.wording import amount_in_words

DEFAULT_LOCALE = "en_GB"
DEFAULT_ZONE = "UTC"
DIGITS_MAX = 40  # a longer number is shown as the text that it is

_NEVER = datetime.min.replace(tzinfo=UTC)
_STEPS = ((86_400, "d"), (3_600, "h"), (60, "min"))


@dataclass(frozen=True, slots=True)
class Reader:
    """One reader's way of reading. `now` is the server's clock when the page was made, aware, UTC."""

    locale: str = DEFAULT_LOCALE
    zone: str = DEFAULT_ZONE
    now: datetime = _NEVER

    def number(self, value: object) -> str:
        """A number with the locale's grouping, all its digits."""
        found = decimal_of(value)
        if found is None:
            return str(value)
        return format_decimal(found, locale=_locale(self.locale), decimal_quantization=False)

    def amount(self, value: object, currency: str = "") -> str:
        """An amount's digits: at least the currency's minor units, at most all that are there; no code."""
        found = decimal_of(value)
        if found is None:
            return str(value)
        exponent = found.as_tuple().exponent
        given = max(0, -exponent) if isinstance(exponent, int) else 0
        minor = get_currency_precision(currency) if is_currency(currency) else min(given, 2)
        pattern = parse_pattern(_locale(self.locale).decimal_formats[None].pattern)
        pattern.frac_prec = (minor, max(minor, given))
        text: str = pattern.apply(abs(found), _locale(self.locale), decimal_quantization=False)
        return f"−{text} (debit)" if found < 0 else text

    def words(self, value: object) -> str:
        """An amount in words, "" where it is none."""
        found = decimal_of(value)
        return "" if found is None else amount_in_words(found, _locale(self.locale).territory or "")

    def local(self, at: datetime) -> datetime:
        """The instant in the reader's zone."""
        return at.astimezone(_zone(self.zone))

    def clock(self, at: datetime) -> str:
        """09:41:07, for what is seconds old."""
        return format_time(self.local(at), "HH:mm:ss", locale=_locale(self.locale))

    def when(self, at: datetime) -> str:
        """As short as it can be said without doubt: 10:30 today, else Fri 5 Dec 10:30, else with its year."""
        there, here = self.local(at), self.local(self.now)
        if there.date() == here.date():
            return format_datetime(there, "HH:mm", locale=_locale(self.locale))
        pattern = "EEE d MMM HH:mm" if abs(there - here) < timedelta(days=180) else "d MMM y HH:mm"
        return format_datetime(there, pattern, locale=_locale(self.locale))

    def exact(self, at: datetime) -> str:
        """In full, with zone and offset: 21 November 2026 09:41:07.042 IST (UTC+05:30)."""
        there = self.local(at)
        text = format_datetime(there, "d MMMM y HH:mm:ss", locale=_locale(self.locale))
        fraction = f".{there.microsecond // 1000:03d}" if there.microsecond else ""
        return f"{text}{fraction} {self.zone_name(at)} (UTC{there:%z})"

    def zone_name(self, at: datetime | None = None) -> str:
        """IST, CET, UTC."""
        return self.local(at or self.now).tzname() or self.zone

    def span(self, length: timedelta) -> str:
        """A length in its two largest units: 2 d 4 h, 49 min, 12 s."""
        seconds = abs(int(length.total_seconds()))
        if seconds < 60:
            return f"{seconds} s"
        parts: list[str] = []
        for size, name in _STEPS:
            if seconds >= size and len(parts) < 2:
                count, seconds = divmod(seconds, size)
                parts.append(f"{count} {name}")
            elif parts:
                break
        return " ".join(parts)

    def ago(self, at: datetime) -> str:
        """How long ago, or in how long."""
        length = self.now - at
        if abs(length) < timedelta(seconds=1):
            return "now"
        return f"{self.span(length)} ago" if length > timedelta(0) else f"in {self.span(length)}"


def decimal_of(value: object) -> Decimal | None:
    """The number that a JSON value is, exactly; None where it is none, or of more than DIGITS_MAX digits."""
    if isinstance(value, bool) or not isinstance(value, int | str | Decimal | float):
        return None
    text = str(value).strip()
    if not text or len(text) > DIGITS_MAX or not (text.lstrip("+-")[:1].isascii() and text.isascii()):
        return None
    try:
        found = Decimal(text)
    except InvalidOperation:
        return None
    exponent = found.as_tuple().exponent
    return found if isinstance(exponent, int) and abs(exponent) <= DIGITS_MAX else None


@lru_cache(maxsize=1)
def _currencies() -> frozenset[str]:
    return frozenset(list_currencies())


def is_currency(code: object) -> bool:
    """True for an ISO 4217 code."""
    return isinstance(code, str) and len(code) == 3 and code in _currencies()


def is_locale(name: str) -> bool:
    """True for a locale that numbers and dates can be written in."""
    try:
        Locale.parse(name)
    except (UnknownLocaleError, ValueError):
        return False
    return True


def is_zone(name: str) -> bool:
    """True for a time zone of the IANA list."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


@lru_cache(maxsize=64)
def _locale(name: str) -> Locale:
    return Locale.parse(name if is_locale(name) else DEFAULT_LOCALE)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name if is_zone(name) else DEFAULT_ZONE)
