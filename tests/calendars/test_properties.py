"""Working time over random calendars: what must hold of every one of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.calendars import BusinessCalendar, calendar

ZONES = ("UTC", "Europe/London", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Gaza")
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@st.composite
def hours(draw: st.DrawFn) -> str:
    """Up to three intervals of a day, ends of the day and hours in which clocks change among them."""
    marks = draw(st.lists(st.integers(0, 24 * 4), min_size=2, max_size=6, unique=True).map(sorted))
    texts = [f"{mark // 4:02}:{mark % 4 * 15:02}" for mark in marks]
    return " ".join(f"{begins}-{ends}" for begins, ends in zip(texts[::2], texts[1::2], strict=False))


@st.composite
def calendars(draw: st.DrawFn) -> BusinessCalendar:
    """A random week in a zone with odd clocks, or a bundled one."""
    if draw(st.integers(0, 4)) == 0:
        return calendar(draw(st.sampled_from(["GB-London", "IN-Mumbai", "AU-Sydney", "US-NewYork", "always"])))
    days = draw(st.lists(st.sampled_from(DAYS), min_size=1, max_size=7, unique=True))
    return BusinessCalendar("random", draw(st.sampled_from(ZONES)), {day: draw(hours()) for day in days})


@st.composite
def instants(draw: st.DrawFn) -> datetime:
    """Instants of several years, often near changes of clocks and ends of months."""
    base = draw(
        st.sampled_from([datetime(2026, 3, 29), datetime(2026, 10, 25), datetime(2026, 3, 8), datetime(2011, 12, 29)])  # noqa: DTZ001
        | st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1))  # noqa: DTZ001
    )
    return base.replace(tzinfo=UTC) + timedelta(microseconds=draw(st.integers(-(10**11), 10**11)))


spans = st.timedeltas(timedelta(0), timedelta(hours=30))


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(calendars(), instants(), spans)
def test_between_undoes_add(found: BusinessCalendar, start: datetime, working: timedelta) -> None:
    """What was added is what lies between."""
    assert found.between(start, found.add(start, working)) == working


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(calendars(), instants(), spans)
def test_a_due_time_lies_within_open_hours_and_not_before_the_start(
    found: BusinessCalendar, start: datetime, working: timedelta
) -> None:
    """Nobody is asked to decide at midnight."""
    due = found.add(start, working)
    assert due >= start
    assert found.is_open(due)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(calendars(), instants(), spans, spans, st.timedeltas(timedelta(0), timedelta(days=3)))
def test_more_time_and_a_later_start_never_lead_to_an_earlier_due_time(
    found: BusinessCalendar, start: datetime, working: timedelta, more: timedelta, later: timedelta
) -> None:
    """Monotone in both."""
    due = found.add(start, working)
    assert found.add(start, working + more) >= due
    assert found.add(start + later, working) >= due


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(calendars(), st.lists(instants(), min_size=3, max_size=3).map(sorted))
def test_working_time_adds_up_and_is_never_longer_than_time(found: BusinessCalendar, three: list[datetime]) -> None:
    """From a to c is from a to b and from b to c; backwards it is the same with a minus."""
    a, b, c = three
    if (c - a).days > 3_000:
        return
    assert found.between(a, c) == found.between(a, b) + found.between(b, c)
    assert timedelta(0) <= found.between(a, b) <= b - a
    assert found.between(b, a) == -found.between(a, b)


@given(calendars(), instants(), spans)
def test_adding_in_two_parts_is_adding_at_once(found: BusinessCalendar, start: datetime, working: timedelta) -> None:
    """A due time can be moved on without knowing where it began."""
    assert found.add(found.add(start, working / 2), working - working / 2) == found.add(start, working)
