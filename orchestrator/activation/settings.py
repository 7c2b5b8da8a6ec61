"""Settings of activation: who decides which version takes new sagas, and what this process says of itself."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings

from orchestrator.setting import number


class ActivationSettings(BaseSettings):
    """Part of the settings of a process (`orchestrator.config.Settings`)."""

    activation: Literal["deploy", "approval"] = Field(
        default="deploy",
        description="deploy: the newest version takes new sagas as soon as a process with it starts. approval: only "
        "when one person asked and another agreed; what came under approval once stays there.",
    )
    activation_role: str = Field(
        default="definition-approver",
        min_length=1,
        description="The role or group of those who may agree to a version.",
    )
    activation_wait_ms: Annotated[
        int, number(604_800_000, 1_000, 31_536_000_000, "How long a request for a version waits for a second person.")
    ]
    build: str = Field(
        default="", max_length=200, description="What was deployed, a commit for example; kept beside new versions."
    )
    deployed_by: str = Field(
        default="",
        max_length=200,
        description="Who deployed it, as the sign-in names them: they do not agree to their own versions.",
    )
