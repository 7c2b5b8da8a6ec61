"""Business calendars: working time of a place, with its zone, office hours, holidays and exceptions.

Rules of this file
- Pure: no clock is read here. What a calendar gives is computed when a due time is set, stored, and never recomputed;
  a changed calendar moves no due time that somebody was already told.
- Instants are aware; results are UTC. Hours are wall times of the calendar's zone: on a day on which clocks change,
  an office that opens at nine opens at nine, and a night shift is an hour shorter or longer.
- A wall time that clocks jump over is the instant of the jump; one that comes twice is its first coming.
- Every search is bounded: a calendar that never opens is refused, and whoever asks for more working time than
  SEARCH_DAYS_MAX days have gets an error, never a loop without end.
- Holidays come from the package `holidays` (by country and subdivision); a bank's own days come on top. Days that
  follow the moon are forecasts there, so a bank that needs certainty names its own with `closed=`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import cache, lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

SEARCH_DAYS_MAX = 3_653  # ten years: no decision of a person may take longer
_DAY = timedelta(days=1)
_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")

Minutes = tuple[int, int]  # of the day's wall clock: from, to
Interval = tuple[datetime, datetime]  # UTC


class CalendarError(ValueError):
    """A calendar is wrong, unknown, or has not the working time that was asked for."""


@dataclass(frozen=True, eq=False)
class BusinessCalendar:
    """Working time of one place.

    name: how definitions name it, for example "IN-Mumbai".
    zone: of the IANA database, for example "Asia/Kolkata".
    hours: per weekday or range of weekdays: {"mon-fri": "09:00-12:30 13:30-17:00", "sat": "10:00-13:00"}. What is not
        named is closed; 24:00 is the end of the day.
    country, subdivision, categories: whose holidays, as the package `holidays` names them; "" for none.
    closed: further days without work. open: days that are worked although they are holidays, by their weekday's hours.
    special: days with hours of their own ("" for none); they win over everything else.
    days_off: rules that no list can have, from a year to its days (every second Saturday).

    Raises CalendarError where something of this is wrong.
    """

    name: str
    zone: str
    hours: Mapping[str, str]
    country: str = ""
    subdivision: str = ""
    categories: tuple[str, ...] = ()
    closed: frozenset[date] = frozenset()
    open: frozenset[date] = frozenset()
    special: Mapping[date, str] = field(default_factory=dict)
    days_off: Callable[[int], Iterable[date]] | None = None

    def __post_init__(self) -> None:
        if not self.name or not self.name.isprintable() or " " in self.name:
            raise CalendarError(f"a calendar's name is one word, not {self.name!r}")
        week = _week(self.name, self.hours)
        if not any(week):
            raise CalendarError(f"calendar {self.name} has no working hours in any week; give hours")
        _zone(self.name, self.zone)
        for day, hours in self.special.items():
            _intervals(f"{self.name}, {day}", hours)
        if self.country:
            self._public_holidays(2026)  # an unknown country or subdivision is found now, not when a task is opened
        elif self.subdivision or self.categories:
            raise CalendarError(f"calendar {self.name} has a subdivision or categories, but no country")

    def add(self, start: datetime, working: timedelta) -> datetime:
        """The first instant, not before start, by which so much working time has passed; always within open hours.

        The end of an open interval belongs to it: seven hours from 09:00 are 16:00, also where offices close then.
        Raises CalendarError where working is negative or not found within SEARCH_DAYS_MAX days.
        """
        start = _aware(start)
        if working < timedelta(0):
            raise CalendarError(f"calendar {self.name}: working time must not be negative, got {working}")
        left = working
        for begins, ends in self._open_from(start):
            begins = max(begins, start)
            if ends - begins >= left:
                return begins + left
            left -= ends - begins
        raise CalendarError(
            f"calendar {self.name} has no {working} of working time within {SEARCH_DAYS_MAX} days of {start:%Y-%m-%d}"
        )

    def between(self, a: datetime, b: datetime) -> timedelta:
        """The working time from a to b; negative where b is earlier. Raises CalendarError beyond SEARCH_DAYS_MAX."""
        a, b = _aware(a), _aware(b)
        if b < a:
            return -self.between(b, a)
        if b - a > _DAY * SEARCH_DAYS_MAX:
            raise CalendarError(f"calendar {self.name} looks at {SEARCH_DAYS_MAX} days at most, not from {a} to {b}")
        total = timedelta(0)
        for begins, ends in self._open_from(a):
            if begins >= b:
                break
            total += max(min(ends, b) - max(begins, a), timedelta(0))
        return total

    def is_open(self, at: datetime) -> bool:
        """Whether there is work at this instant; at the very end of an open interval there still is."""
        at = _aware(at)
        return any(begins <= at <= ends for begins, ends in self._on(at.astimezone(_zone(self.name, self.zone)).date()))

    def is_holiday(self, day: date) -> bool:
        """Whether a day on which one would work by the week is free."""
        return bool(_week(self.name, self.hours)[day.weekday()]) and not self._on(day)

    def _open_from(self, start: datetime) -> Iterator[Interval]:
        """Open intervals that end at or after start, in order, for SEARCH_DAYS_MAX days."""
        first = start.astimezone(_zone(self.name, self.zone)).date()
        for number in range(-1, SEARCH_DAYS_MAX + 1):  # one day early: an interval of yesterday may end in the fold
            try:
                found = self._on(first + _DAY * number)
            except OverflowError:  # the year 10000
                return
            yield from ((begins, ends) for begins, ends in found if ends >= start)

    def _on(self, day: date) -> tuple[Interval, ...]:
        return _open_on(self, day)

    def _minutes_on(self, day: date) -> tuple[Minutes, ...]:
        if day in self.special:
            return _intervals(f"{self.name}, {day}", self.special[day])
        if day in self.closed or (day not in self.open and day in _free_days(self, day.year)):
            return ()
        return _week(self.name, self.hours)[day.weekday()]

    def _public_holidays(self, year: int) -> frozenset[date]:
        if not self.country:
            return frozenset()
        import holidays  # a fifth of a second, which only those pay who ask for a country's

        try:
            return frozenset(
                holidays.country_holidays(
                    self.country, subdiv=self.subdivision or None, years=year, categories=self.categories or None
                )
            )
        except (NotImplementedError, ValueError) as error:
            raise CalendarError(f"calendar {self.name}: {error}") from None


@lru_cache(maxsize=16_384)
def _open_on(calendar: BusinessCalendar, day: date) -> tuple[Interval, ...]:
    """A day's open intervals in UTC, in order and without overlap."""
    zone = _zone(calendar.name, calendar.zone)
    found: list[Interval] = []
    for begins, ends in calendar._minutes_on(day):
        interval = (_instant(day, begins, zone), _instant(day, ends, zone))
        if interval[0] < interval[1]:  # clocks may jump over a whole interval
            found.append(interval)
    return tuple(found)


@lru_cache(maxsize=1_024)
def _free_days(calendar: BusinessCalendar, year: int) -> frozenset[date]:
    own = calendar.days_off(year) if calendar.days_off is not None else ()
    return calendar._public_holidays(year) | frozenset(own)


@lru_cache(maxsize=256)
def _zone(name: str, zone: str) -> ZoneInfo:
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CalendarError(f"calendar {name}: {zone!r} is no time zone of the IANA database") from None


def _instant(day: date, minutes: int, zone: tzinfo) -> datetime:
    """The instant of a wall time; of one that does not exist, that of the jump over it."""
    if minutes == 24 * 60:
        day, minutes = day + _DAY, 0
    wall = datetime.combine(day, time(minutes // 60, minutes % 60), tzinfo=zone)
    late, early = wall.astimezone(UTC), wall.replace(fold=1).astimezone(UTC)
    if early >= late:  # once, or twice: the first
        return late
    before = early.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):  # at most 17 rounds: the jump lies in between
        middle = (early + (late - early) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late


def _aware(at: datetime) -> datetime:
    if at.tzinfo is None or at.utcoffset() is None:
        raise CalendarError(f"{at} has no time zone; calendars work with aware instants")
    return at.astimezone(UTC)


def _week(name: str, hours: Mapping[str, str]) -> tuple[tuple[Minutes, ...], ...]:
    return _parsed_week(name, tuple(hours.items()))


@lru_cache(maxsize=256)
def _parsed_week(name: str, hours: tuple[tuple[str, str], ...]) -> tuple[tuple[Minutes, ...], ...]:
    """Seven days' intervals from {"mon-fri": "09:00-17:00"}."""
    week: list[tuple[Minutes, ...] | None] = [None] * 7
    for days, text in hours:
        first, _, last = days.partition("-")
        if first not in _DAYS or (last or first) not in _DAYS:
            raise CalendarError(f"calendar {name}: {days!r} is no weekday or range of {', '.join(_DAYS)}")
        begins, ends = _DAYS.index(first), _DAYS.index(last or first)
        if begins > ends:
            raise CalendarError(f"calendar {name}: {days!r} goes backwards; a week begins with mon")
        for number in range(begins, ends + 1):
            if week[number] is not None:
                raise CalendarError(f"calendar {name}: {_DAYS[number]} has hours twice")
            week[number] = _intervals(f"{name}, {days}", text)
    return tuple(day or () for day in week)


@lru_cache(maxsize=4_096)
def _intervals(where: str, text: str) -> tuple[Minutes, ...]:
    """Minutes of the day from "09:00-12:30 13:30-17:00"; raises CalendarError where they overlap or go backwards."""
    found: list[Minutes] = []
    for part in text.split():
        match = _HOURS.fullmatch(part)
        if match is None:
            raise CalendarError(f"calendar {where}: {part!r} is not hh:mm-hh:mm")
        h1, m1, h2, m2 = (int(number) for number in match.groups())
        begins, ends = h1 * 60 + m1, h2 * 60 + m2
        if begins >= ends or ends > 24 * 60:
            raise CalendarError(f"calendar {where}: {part!r} does not end after it begins, within the day")
        found.append((begins, ends))
    if any(later[0] < earlier[1] for earlier, later in pairwise(found)):
        raise CalendarError(f"calendar {where}: {text!r} overlaps or is not in order")
    return tuple(found)


# --- the calendars that are known -------------------------------------------------------------------------------------


def second_and_fourth_saturdays(year: int) -> Iterable[date]:
    """Banks of India are closed on these, and on the first of April, when the year's books are closed."""
    yield date(year, 4, 1)
    for month in range(1, 13):
        first = date(year, month, 1)
        saturday = first + _DAY * ((5 - first.weekday()) % 7)
        yield from (saturday + _DAY * 7, saturday + _DAY * 21)


def federal_reserve_days(year: int) -> Iterable[date]:
    """Federal holidays as the Federal Reserve keeps them: Sunday's on Monday, but Saturday's not on Friday."""
    import holidays

    for day in holidays.country_holidays("US", years=year, observed=False):
        yield day + _DAY if day.weekday() == 6 else day


_known: dict[str, BusinessCalendar] = {}


@cache
def _bundled() -> None:
    """Makes those of ours known, when the first one is asked for: a process without working time needs none."""
    for made in (
        BusinessCalendar("always", "UTC", {"mon-sun": "00:00-24:00"}),
        BusinessCalendar("GB-London", "Europe/London", {"mon-fri": "09:00-17:00"}, country="GB", subdivision="ENG"),
        BusinessCalendar("US-NewYork", "America/New_York", {"mon-fri": "09:00-17:00"}, days_off=federal_reserve_days),
        BusinessCalendar(
            "AU-Sydney",
            "Australia/Sydney",
            {"mon-fri": "09:00-17:00"},
            country="AU",
            subdivision="NSW",
            categories=("public", "bank"),
        ),
        BusinessCalendar(
            "IN-Mumbai",
            "Asia/Kolkata",
            {"mon-sat": "10:00-17:00"},
            country="IN",
            subdivision="MH",
            days_off=second_and_fourth_saturdays,
        ),
    ):
        _known[made.name] = made


def register(made: BusinessCalendar) -> BusinessCalendar:
    """Makes a calendar known by its name; gives it back. Raises CalendarError where the name is another one's."""
    _bundled()
    if _known.setdefault(made.name, made) is not made:
        raise CalendarError(f"there is a calendar {made.name} already; give yours another name")
    return made


def calendar(name: str) -> BusinessCalendar:
    """The calendar of this name. Raises CalendarError with the names that are known."""
    _bundled()
    found = _known.get(name)
    if found is None:
        raise CalendarError(f"there is no calendar {name!r}; known are {', '.join(calendar_names())}")
    return found


def calendar_names() -> tuple[str, ...]:
    """The names of all known calendars, in order."""
    _bundled()
    return tuple(sorted(_known))
