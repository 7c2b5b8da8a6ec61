"""How one person wants to read: locale, time zone, theme, shortcuts. Loaded once for each request of a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.pages.formats import DEFAULT_LOCALE, DEFAULT_ZONE, is_locale, is_zone

THEMES = ("system", "light", "dark")


@dataclass(frozen=True, slots=True)
class Profile:
    """One person's settings of the pages."""

    locale: str = DEFAULT_LOCALE
    zone: str = DEFAULT_ZONE
    theme: str = "system"
    shortcuts: bool = True


def profile_of(data: Mapping[str, Any]) -> Profile:
    """Settings as they were kept; what is not known any more is as usual."""
    usual = Profile()
    locale, zone, theme = (str(data.get(name, "")) for name in ("locale", "zone", "theme"))
    return Profile(
        locale=locale if is_locale(locale) else usual.locale,
        zone=zone if is_zone(zone) else usual.zone,
        theme=theme if theme in THEMES else usual.theme,
        shortcuts=bool(data.get("shortcuts", True)),
    )
