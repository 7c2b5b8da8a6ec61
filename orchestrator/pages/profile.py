"""How one person wants to read: locale, time zone, theme, shortcuts. Loaded once for each request of a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from fastapi import Request

from orchestrator.api.engine import Acting
from orchestrator.pages.formats import DEFAULT_LOCALE, DEFAULT_ZONE

Theme = Literal["system", "light", "dark"]
THEMES: tuple[str, ...] = get_args(Theme)


@dataclass(frozen=True, slots=True)
class Profile:
    """One person's settings of the pages."""

    locale: str = DEFAULT_LOCALE
    zone: str = DEFAULT_ZONE
    theme: str = "system"
    shortcuts: bool = True


async def profile_for(request: Request, actor: Acting) -> None:
    """Puts the actor's profile where `page` finds it."""
    request.state.profile = Profile()
