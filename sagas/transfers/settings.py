"""What an installation may say about transfers, in environment variables."""

from __future__ import annotations

from decimal import Decimal
from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class TransferSettings(BaseSettings):
    """ORCHESTRATOR_TRANSFER_THRESHOLD: from this amount on, a person approves. ORCHESTRATOR_BANK_URL: the banking
    backend. ORCHESTRATOR_APPROVAL_HOURS: how long an approval is waited for."""

    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_", frozen=True)

    transfer_threshold: Decimal = Field(default=Decimal(5000), ge=0)
    bank_url: str = Field(default="http://127.0.0.1:8090", pattern=r"^https?://")
    approval_hours: float = Field(default=24, gt=0, le=24 * 365)


@cache
def transfer_settings() -> TransferSettings:
    """The settings of this process. Raises pydantic's ValidationError naming the variable."""
    return TransferSettings()
