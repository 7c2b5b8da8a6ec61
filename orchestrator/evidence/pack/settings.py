"""The setting of evidence packs: in which time zone their reports tell local times."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings


def is_zone(name: str) -> bool:
    """True for a time zone of the IANA list."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


class PackSettings(BaseSettings):
    """Part of the settings of a process (`orchestrator.config.Settings`)."""

    evidence_zone: str = Field(
        default="UTC",
        description="Time zone of local times in evidence reports, as Asia/Kolkata; one for all, so that a pack made "
        "again is the same pack.",
    )

    @field_validator("evidence_zone")
    @classmethod
    def _is_zone(cls, value: str) -> str:
        if not is_zone(value):
            raise ValueError("must be a time zone of the IANA list, as Asia/Kolkata")
        return value
