"""Instants: from the microseconds that records hold to aware datetimes, exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(us: int) -> datetime:
    """Microseconds since the epoch as an aware datetime, exactly."""
    return _EPOCH + timedelta(microseconds=us)


def optional_instant(us: int) -> datetime | None:
    """As `instant`; None for 0, which means that there is none."""
    return instant(us) if us else None


def microseconds(at: datetime) -> int:
    """The other way round. Raises ValueError for a datetime without a time zone."""
    if at.tzinfo is None:
        raise ValueError("an instant needs a time zone")
    return (at - _EPOCH) // timedelta(microseconds=1)
