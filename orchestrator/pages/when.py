"""Instants that people type, in their own time zone: for as-of dates and ranges in addresses."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from orchestrator.pages.formats import DEFAULT_ZONE, is_zone


def instant_of(text: str, zone: str) -> datetime | None:
    """What a field of type datetime-local (or a whole ISO 8601 instant) means; None for what is neither."""
    try:
        found = datetime.fromisoformat(text.strip()) if text.strip() else None
    except ValueError:
        return None
    if found is None:
        return None
    there = ZoneInfo(zone if is_zone(zone) else DEFAULT_ZONE)
    return (found if found.tzinfo else found.replace(tzinfo=there)).astimezone(UTC)


def field_of(at: datetime | None, zone: str) -> str:
    """The same instant as a datetime-local field holds it."""
    if at is None:
        return ""
    return at.astimezone(ZoneInfo(zone if is_zone(zone) else DEFAULT_ZONE)).strftime("%Y-%m-%dT%H:%M:%S")
