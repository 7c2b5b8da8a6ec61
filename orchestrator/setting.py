"""How one setting is written down, for every group of settings (pydantic-settings)."""

from __future__ import annotations

from typing import Any

from pydantic import Field


def number(default: int, least: int, most: int, text: str) -> Any:
    """A whole number within least and most, both included; the description says the range."""
    return Field(default=default, ge=least, le=most, description=f"{text} Range: {least} to {most}.")
