"""Working time: examples that people can check by hand, and properties over random calendars."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from orchestrator.calendars import BusinessCalendar, CalendarError, calendar, calendar_names, register

LONDON, NEW_YORK = ZoneInfo("Europe/London"), ZoneInfo("America/New_York")
HOUR = timedelta(hours=1)


def at(text: str, zone: str) -> datetime:
    """An instant from a wall time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


class TestAdd:
    @pytest.mark.parametrize(
        ("name", "zone", "start", "hours", "expected"),
        [
            ("GB-London", "Europe/London", "2026-11-18 10:00", 3, "2026-11-18 13:00"),
            ("GB-London", "Europe/London", "2026-11-18 10:00", 7, "2026-11-18 17:00"),  # the end belongs to the day
            ("GB-London", "Europe/London", "2026-11-20 16:00", 2, "2026-11-23 10:00"),  # over a weekend
            ("GB-London", "Europe/London", "2026-11-21 12:00", 0, "2026-11-23 09:00"),  # nothing, from outside hours
            (
                "GB-London",
                "Europe/London",
                "2026-12-24 16:00",
                2,
                "2026-12-29 10:00",
            ),  # Christmas, and its observed day
            ("GB-London", "Europe/London", "2026-10-23 16:00", 2, "2026-10-26 10:00"),  # clocks go back on Sunday
            ("GB-London", "Europe/London", "2026-03-27 16:00", 2, "2026-03-30 10:00"),  # clocks go forward on Sunday
            ("GB-London", "Europe/London", "2026-01-30 16:00", 8, "2026-02-02 16:00"),  # end of a month
            ("US-NewYork", "America/New_York", "2026-07-02 16:00", 2, "2026-07-03 10:00"),  # the Fed works on July 3
            ("US-NewYork", "America/New_York", "2023-01-01 12:00", 1, "2023-01-03 10:00"),  # New Year on a Sunday
            ("IN-Mumbai", "Asia/Kolkata", "2026-11-13 16:00", 2, "2026-11-16 11:00"),  # a second Saturday
            ("IN-Mumbai", "Asia/Kolkata", "2026-11-06 16:00", 2, "2026-11-07 11:00"),  # a first one
            ("IN-Mumbai", "Asia/Kolkata", "2026-03-30 16:30", 1, "2026-04-02 10:30"),  # March 31 and April 1 are free
            ("AU-Sydney", "Australia/Sydney", "2026-07-31 16:00", 2, "2026-08-04 10:00"),  # bank holiday on August 3
            ("always", "UTC", "2026-12-31 23:30", 1, "2027-01-01 00:30"),
        ],
    )
    def test_working_time_passes_only_when_offices_are_open(
        self, name: str, zone: str, start: str, hours: int, expected: str
    ) -> None:
        """Each line can be checked on a paper calendar."""
        assert calendar(name).add(at(start, zone), HOUR * hours) == at(expected, zone)

    def test_a_lunch_break_does_not_count(self) -> None:
        """Several intervals a day are several intervals."""
        split = BusinessCalendar("split", "UTC", {"mon-fri": "09:00-12:00 13:00-17:00"})
        assert split.add(at("2026-11-18 11:00", "UTC"), HOUR * 2) == at("2026-11-18 14:00", "UTC")
        assert split.add(at("2026-11-18 12:30", "UTC"), timedelta(0)) == at("2026-11-18 13:00", "UTC")
        assert split.between(at("2026-11-18 11:00", "UTC"), at("2026-11-18 14:00", "UTC")) == HOUR * 2

    def test_own_days_win_over_holidays_and_the_week(self) -> None:
        """closed, open and special, in rising order of weight."""
        bank = BusinessCalendar(
            "bank",
            "Europe/London",
            {"mon-fri": "09:00-17:00"},
            country="GB",
            subdivision="ENG",
            closed=frozenset({date(2026, 11, 18)}),
            open=frozenset({date(2026, 12, 25)}),
            special={date(2026, 12, 24): "09:00-12:00", date(2026, 11, 21): "10:00-11:00"},
        )
        assert bank.add(at("2026-11-17 16:00", "Europe/London"), HOUR * 2) == at("2026-11-19 10:00", "Europe/London")
        assert bank.add(at("2026-12-24 11:00", "Europe/London"), HOUR * 2) == at("2026-12-25 10:00", "Europe/London")
        assert bank.add(at("2026-11-20 16:30", "Europe/London"), HOUR) == at("2026-11-21 10:30", "Europe/London")

    def test_a_night_shift_is_an_hour_shorter_or_longer_when_clocks_change(self) -> None:
        """01:00 to 02:00 does not exist on March 29, and comes twice on October 25."""
        night = BusinessCalendar("night", "Europe/London", {"mon-sun": "00:00-04:00"})
        for day, hours in (("2026-03-29", 3), ("2026-10-25", 5), ("2026-11-18", 4)):
            assert (
                night.between(at(f"{day} 00:00", "Europe/London"), at(f"{day} 12:00", "Europe/London")) == HOUR * hours
            )

    def test_a_time_that_clocks_jump_over_is_the_instant_of_the_jump(self) -> None:
        """New York, March 8 2026: 02:00 becomes 03:00."""
        odd = BusinessCalendar("odd", "America/New_York", {"mon-sun": "01:00-02:30 02:40-02:50 04:00-05:00"})
        jump = datetime(2026, 3, 8, 7, tzinfo=UTC)
        assert odd.add(jump - HOUR, HOUR) == jump
        assert odd.add(jump - HOUR, HOUR + timedelta(minutes=1)) == at("2026-03-08 04:01", "America/New_York")

    def test_a_time_that_comes_twice_is_its_first_coming(self) -> None:
        """New York, November 1 2026: 01:00 to 02:00 comes twice."""
        odd = BusinessCalendar("odd2", "America/New_York", {"sun": "01:30-03:00"})
        start = datetime(2026, 11, 1, 0, tzinfo=NEW_YORK)
        assert odd.add(start, timedelta(0)) == datetime(2026, 11, 1, 5, 30, tzinfo=UTC)
        assert odd.between(start, start + HOUR * 12) == HOUR * 2.5

    def test_a_day_that_a_zone_never_had_is_no_obstacle(self) -> None:
        """Samoa went from December 29 to 31 of 2011."""
        samoa = BusinessCalendar("samoa", "Pacific/Apia", {"mon-fri": "09:00-17:00"})
        assert samoa.add(at("2011-12-29 16:00", "Pacific/Apia"), HOUR * 2) == at("2012-01-02 10:00", "Pacific/Apia")


class TestBounds:
    def test_too_much_working_time_is_an_error_and_no_endless_loop(self) -> None:
        """One hour a week, and a hundred years of it."""
        rare = BusinessCalendar("rare", "UTC", {"mon": "09:00-10:00"})
        with pytest.raises(CalendarError, match="within 3653 days"):
            rare.add(at("2026-11-18 10:00", "UTC"), timedelta(days=100))

    def test_a_calendar_whose_every_day_is_free_is_an_error_when_asked(self) -> None:
        """Its week has hours, its holidays leave none."""

        def all_days(year: int) -> list[date]:
            return [date(year, 1, 1) + timedelta(days=n) for n in range(366)]

        never = BusinessCalendar("never", "UTC", {"mon-sun": "09:00-17:00"}, days_off=all_days)
        with pytest.raises(CalendarError, match="no 1:00:00 of working time"):
            never.add(at("2026-11-18 10:00", "UTC"), HOUR)

    def test_the_end_of_time_is_an_error_like_any_other(self) -> None:
        """No OverflowError escapes."""
        with pytest.raises(CalendarError, match="within 3653 days"):
            calendar("always").add(datetime(9999, 12, 30, tzinfo=UTC), timedelta(days=5))

    def test_between_looks_at_ten_years_at_most(self) -> None:
        """A typing error in a year must not cost seconds."""
        with pytest.raises(CalendarError, match="at most"):
            calendar("always").between(datetime(2026, 1, 1, tzinfo=UTC), datetime(2062, 1, 1, tzinfo=UTC))

    def test_naive_times_and_negative_spans_are_refused(self) -> None:
        """Guessing a zone would be wrong somewhere."""
        with pytest.raises(CalendarError, match="no time zone"):
            calendar("always").add(datetime(2026, 1, 1), HOUR)  # noqa: DTZ001 - the mistake is the test
        with pytest.raises(CalendarError, match="must not be negative"):
            calendar("always").add(datetime(2026, 1, 1, tzinfo=UTC), -HOUR)


class TestMistakes:
    @pytest.mark.parametrize(
        ("hours", "zone", "country", "subdivision", "expected"),
        [
            ({}, "UTC", "", "", "no working hours in any week"),
            ({"mon-fri": ""}, "UTC", "", "", "no working hours in any week"),
            ({"monday": "09:00-17:00"}, "UTC", "", "", "'monday' is no weekday"),
            ({"fri-mon": "09:00-17:00"}, "UTC", "", "", "goes backwards"),
            ({"mon-fri": "09:00-17:00", "wed": "10:00-12:00"}, "UTC", "", "", "wed has hours twice"),
            ({"mon": "9-5"}, "UTC", "", "", "'9-5' is not hh:mm-hh:mm"),
            ({"mon": "17:00-09:00"}, "UTC", "", "", "does not end after it begins"),
            ({"mon": "09:00-24:30"}, "UTC", "", "", "does not end after it begins, within the day"),
            ({"mon": "09:00-13:00 12:00-17:00"}, "UTC", "", "", "overlaps or is not in order"),
            ({"mon": "09:00-17:00"}, "Mars/Olympus", "", "", "'Mars/Olympus' is no time zone"),
            ({"mon": "09:00-17:00"}, "UTC", "ZZ", "", "ZZ"),
            ({"mon": "09:00-17:00"}, "UTC", "GB", "ATLANTIS", "ATLANTIS"),
            ({"mon": "09:00-17:00"}, "UTC", "", "ENG", "but no country"),
        ],
    )
    def test_a_wrong_calendar_is_refused_where_it_is_written(
        self, hours: Mapping[str, str], zone: str, country: str, subdivision: str, expected: str
    ) -> None:
        """Not when the first task is opened, months later."""
        with pytest.raises(CalendarError, match=expected):
            BusinessCalendar("wrong", zone, hours, country=country, subdivision=subdivision)

    def test_an_unknown_calendar_is_answered_with_the_known_ones(self) -> None:
        """So that a typing error is mended at once."""
        with pytest.raises(CalendarError, match=r"no calendar 'GB-Londn'; known are .*GB-London.*always"):
            calendar("GB-Londn")
        assert {"always", "AU-Sydney", "GB-London", "IN-Mumbai", "US-NewYork"} <= set(calendar_names())

    def test_a_name_belongs_to_one_calendar(self) -> None:
        """Registering the same one again (an import under another name) is fine, another one is not."""
        own = register(BusinessCalendar("test-registered", "UTC", {"mon": "09:00-10:00"}))
        assert register(own) is own is calendar("test-registered")
        with pytest.raises(CalendarError, match="already"):
            register(BusinessCalendar("test-registered", "UTC", {"mon": "09:00-10:00"}))

    def test_whether_it_is_open_can_be_asked(self) -> None:
        """For pages that say why an SLA stands still."""
        london = calendar("GB-London")
        assert london.is_open(datetime(2026, 11, 18, 9, tzinfo=LONDON))
        assert not london.is_open(datetime(2026, 11, 18, 8, 59, tzinfo=LONDON))
        assert london.is_holiday(date(2026, 12, 25))
        assert not london.is_holiday(date(2026, 11, 21)), "a Saturday is free anyway"


def test_the_guides_example_is_a_calendar() -> None:
    """What people copy must work."""
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "business-calendars.md").read_text()
    block = "\n".join(line[4:] for line in guide.splitlines() if line.startswith("    "))
    names: dict[str, object] = {}
    exec(compile(block, "guide", "exec"), names)
    frankfurt = calendar("DE-Frankfurt")
    assert frankfurt.add(at("2026-12-23 16:00", "Europe/Berlin"), HOUR * 2) == at("2026-12-28 09:30", "Europe/Berlin")
    assert frankfurt.add(at("2026-11-11 11:00", "Europe/Berlin"), HOUR) == at("2026-11-12 09:19", "Europe/Berlin")
