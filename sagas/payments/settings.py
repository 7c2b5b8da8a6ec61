"""What an installation may say about payments, in environment variables."""

from __future__ import annotations

from decimal import Decimal
from functools import cache

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class PaymentSettings(BaseSettings):
    """ORCHESTRATOR_PAYMENT_APPROVAL_HOURS: how long each approval is waited for. ORCHESTRATOR_PAYMENT_COMMITTEE_FROM:
    from this amount on, the treasury committee gives the second approval, by two of its members."""

    model_config = SettingsConfigDict(env_prefix="ORCHESTRATOR_PAYMENT_", frozen=True)

    approval_hours: float = Field(default=24, gt=0, le=24 * 365)
    committee_from: Decimal = Field(default=Decimal(1_000_000), ge=0)


@cache
def payment_settings() -> PaymentSettings:
    """The settings of this process. Raises pydantic's ValidationError naming the variable."""
    return PaymentSettings()
