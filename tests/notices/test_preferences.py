"""When people are told: at once, once a day, not at night; escalations always."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.notices.preferences import (
    DELIVERIES,
    PreferenceError,
    Preferences,
    clock_text,
    instant,
    microseconds,
    minute_of,
    when,
)

NIGHT = Preferences(zone="Asia/Kolkata", quiet_from=20 * 60, quiet_to=7 * 60)
DAILY = Preferences(zone="Europe/London", delivery="digest", digest_at=8 * 60)


def at(text: str, zone: str) -> int:
    """Microseconds of a wall time."""
    return microseconds(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)))


@pytest.mark.parametrize(
    ("wishes", "now", "due", "expected"),
    [
        (NIGHT, "2026-11-18 19:59", "", "2026-11-18 19:59"),
        (NIGHT, "2026-11-18 20:00", "", "2026-11-19 07:00"),
        (NIGHT, "2026-11-19 03:00", "", "2026-11-19 07:00"),
        (NIGHT, "2026-11-19 07:00", "", "2026-11-19 07:00"),
        (NIGHT, "2026-11-19 03:00", "2026-11-19 07:00", "2026-11-19 03:00"),  # due before the night is over
        (NIGHT, "2026-11-19 03:00", "2026-11-19 07:01", "2026-11-19 07:00"),
        (DAILY, "2026-11-18 07:59", "", "2026-11-18 08:00"),
        (DAILY, "2026-11-18 08:00", "", "2026-11-19 08:00"),
        (DAILY, "2026-10-24 12:00", "", "2026-10-25 08:00"),  # the night in which clocks go back
        (DAILY, "2026-11-18 12:00", "2026-11-18 18:00", "2026-11-18 12:00"),  # the digest would be too late
        (DAILY, "2026-11-18 12:00", "2026-11-19 12:00", "2026-11-19 08:00"),
        (Preferences(), "2026-11-18 03:00", "", "2026-11-18 03:00"),
    ],
)
def test_examples_by_the_clock(wishes: Preferences, now: str, due: str, expected: str) -> None:
    """Wall times of the person's own zone."""
    found = when("opened", wishes, at(now, wishes.zone), at(due, wishes.zone) if due else 0)
    assert found is not None
    assert found.due == at(expected, wishes.zone)
    assert found.digest == (wishes is DAILY and now != expected)


wishes = st.builds(
    Preferences,
    zone=st.sampled_from(["UTC", "Asia/Kolkata", "Australia/Lord_Howe", "America/New_York", "Africa/Casablanca"]),
    delivery=st.sampled_from(DELIVERIES),
    digest_at=st.integers(0, 1439),
    quiet_from=st.integers(0, 1439),
    quiet_to=st.integers(0, 1439),
)
moments = st.datetimes(datetime(2025, 1, 1), datetime(2028, 1, 1), timezones=st.just(UTC)).map(microseconds)  # noqa: DTZ001


@given(wishes, moments)
def test_an_escalation_comes_at_once_whatever_somebody_wished(wished: Preferences, now: int) -> None:
    """It is there because nobody acted."""
    found = when("escalated", wished, now)
    assert found is not None
    assert (found.due, found.digest) == (now, False)


@given(wishes, moments)
def test_nothing_comes_before_it_happened_or_more_than_a_day_later(wished: Preferences, now: int) -> None:
    """And what is put off lands on the minute that was wished for, as clocks there show it."""
    found = when("reminded", wished, now)
    if wished.delivery == "escalations":
        assert found is None
        return
    assert found is not None
    assert now <= found.due <= now + 26 * 3_600_000_000
    local = instant(found.due).astimezone(ZoneInfo(wished.zone))
    if found.digest:
        shown = local.hour * 60 + local.minute
        assert (shown - wished.digest_at) % 1440 in (0, 30, 60)  # later by the jump where clocks jump over it


@pytest.mark.parametrize(
    "wrong", [{"zone": "Mars"}, {"zone": ""}, {"delivery": "never"}, {"digest_at": 1440}, {"quiet_from": -1}]
)
def test_wishes_that_make_no_sense_are_refused(wrong: dict[str, str]) -> None:
    """Where they are written."""
    with pytest.raises(PreferenceError):
        Preferences(**wrong)  # type: ignore[arg-type]


def test_clocks_are_read_and_written() -> None:
    """In 24 hours."""
    assert clock_text(minute_of("07:05")) == "07:05"
    for wrong in ("24:00", "7:5", "07:05:01", "noon", "07:00+01:00"):
        with pytest.raises(PreferenceError):
            minute_of(wrong)
