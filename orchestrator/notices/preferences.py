"""When somebody wants to be told: at once, once a day, not at night. Pure.

Rules of this file
- An escalation comes at once, whatever somebody wished: it is there because nobody acted.
- A digest that would come after its task is due helps nobody: such a notice comes as if "at once" had been chosen.
- Times of the day are wall times in the person's own zone; instants are microseconds since the epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Delivery = Literal["at_once", "digest", "escalations"]
DELIVERIES: tuple[Delivery, ...] = ("at_once", "digest", "escalations")
URGENT = frozenset({"escalated"})
DAY_MINUTES = 24 * 60

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class PreferenceError(ValueError):
    """A preference makes no sense; the text says which and why."""


@dataclass(frozen=True, slots=True)
class Preferences:
    """How one person or group wants to be told.

    language: of dates and templates, for example "en-IN". digest_at, quiet_from, quiet_to: minutes of the day in
    `zone`; the quiet hours may go over midnight, and are none where both are the same.
    """

    language: str = "en"
    zone: str = "UTC"
    delivery: Delivery = "at_once"
    digest_at: int = 8 * 60
    quiet_from: int = 0
    quiet_to: int = 0

    def __post_init__(self) -> None:
        if self.delivery not in DELIVERIES:
            raise PreferenceError(f"delivery is {self.delivery!r}; it may be {', '.join(DELIVERIES)}")
        for name in ("digest_at", "quiet_from", "quiet_to"):
            if not 0 <= getattr(self, name) < DAY_MINUTES:
                raise PreferenceError(f"{name} must be a time of the day")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise PreferenceError(f"{self.zone!r} is no time zone of the IANA database") from None


@dataclass(frozen=True, slots=True)
class When:
    """Not before `due`. `digest`: together with what else is due then for the same recipient."""

    due: int
    digest: bool = False


def when(kind: str, wishes: Preferences, now: int, task_due: int = 0) -> When | None:
    """When a notice of this kind goes out; None where its recipient does not want to hear of it. task_due 0: none."""
    if kind in URGENT:
        return When(now)
    if wishes.delivery == "escalations":
        return None
    at = instant(now).astimezone(ZoneInfo(wishes.zone))
    if wishes.delivery == "digest":
        next_one = _next(at, wishes.digest_at)
        if not task_due or next_one < task_due:
            return When(next_one, digest=True)
    later = _after_quiet(at, wishes, now)
    return When(now if task_due and later >= task_due else later)  # whoever is told after it was due is told in vain


def _after_quiet(at: datetime, wishes: Preferences, now: int) -> int:
    begins, ends = wishes.quiet_from, wishes.quiet_to
    minute = at.hour * 60 + at.minute
    quiet = begins <= minute < ends if begins <= ends else (minute >= begins or minute < ends)
    return _next(at, ends) if quiet else now


def _next(at: datetime, minute: int) -> int:
    """The next instant, after `at`, at which clocks there show this minute of the day."""
    day = at.date()
    while (found := _wall(day, minute, at)) <= microseconds(at):
        day += timedelta(days=1)
    return found


def _wall(day: date, minute: int, at: datetime) -> int:
    return microseconds(datetime.combine(day, time(minute // 60, minute % 60), tzinfo=at.tzinfo))


def instant(at: int) -> datetime:
    """Microseconds since the epoch as an aware instant, exactly."""
    return _EPOCH + timedelta(microseconds=at)


def microseconds(at: datetime) -> int:
    """An aware instant as microseconds since the epoch."""
    return (at - _EPOCH) // _MICROSECOND


def minute_of(text: str) -> int:
    """Minutes of the day from "08:30". Raises PreferenceError."""
    try:
        found = time.fromisoformat(text)
    except ValueError:
        raise PreferenceError(f"{text[:20]!r} is no time of the day: write it as 08:30") from None
    if found.tzinfo is not None or found.second or found.microsecond:
        raise PreferenceError(f"{text[:20]!r} is no time of the day: write it as 08:30")
    return found.hour * 60 + found.minute


def clock_text(minute: int) -> str:
    """ "08:30" from minutes of the day."""
    return f"{minute // 60:02}:{minute % 60:02}"
