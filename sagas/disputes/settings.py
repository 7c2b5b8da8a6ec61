"""What an installation may say about disputes, in environment variables."""

from __future__ import annotations

from functools import cache
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from events.disputes import Priority

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

Hours = Annotated[float, Field(gt=0, le=24 * 365)]


def _private(url: str) -> str:
    """What customers write goes out under encryption, or stays on this machine."""
    parts = urlsplit(url)
    if url and parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        raise ValueError("a model elsewhere is called by https only; plain http is for this machine")
    return url


class OtherTimes(BaseModel):
    """Times of one priority, in hours; those that are left out are as for all."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    acknowledge: Hours | None = None
    branch: Hours | None = None
    finding: Hours | None = None
    review: Hours | None = None


class DisputeSettings(BaseSettings):
    """Prefix ORCHESTRATOR_DISPUTE_. Times in hours: ACKNOWLEDGE_HOURS (for the relationship manager), BRANCH_HOURS,
    FINDING_HOURS, REVIEW_HOURS; other ones for some priorities as JSON in TIMES: {"Urgent": {"acknowledge": 4}}.
    MODEL_URL: an OpenAI-compatible API ("https://.../v1"); empty: the bundled rules classify and check. MODEL_NAME,
    MODEL_KEY, MODEL_SECONDS: its model, key, and how long one answer may take. TRACKING_URL: where customers follow
    their case (empty: where they called us).
    """

    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_DISPUTE_", frozen=True, protected_namespaces=())

    acknowledge_hours: Hours = 24
    branch_hours: Hours = 48
    finding_hours: Hours = 72
    review_hours: Hours = 72
    times: dict[Priority, OtherTimes] = Field(default_factory=dict)
    model_url: Annotated[str, AfterValidator(_private)] = ""
    model_name: str = "gpt-4o-mini"
    model_key: SecretStr = SecretStr("")
    model_seconds: float = Field(default=20, gt=0, le=60)
    tracking_url: str = Field(default="", pattern=r"^(https?://.+)?$")


@cache
def dispute_settings() -> DisputeSettings:
    """The settings of this process. Raises pydantic's ValidationError naming the variable."""
    return DisputeSettings()
