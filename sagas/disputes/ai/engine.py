"""The port: what a model, or whatever stands in its place, is asked.

Rules of this file
- An engine only reads. It may be slow, away, or talk rubbish; then it raises, and the saga asks again or goes on.
- What comes out of an engine is data: an enum, a yes or no, a few short sentences that are shown to people. It is never
  an instruction, an address, a person or an amount.
"""

from __future__ import annotations

from typing import Protocol

from events.disputes import CaseClassified, CheckCompliance, ClassifyCase, ComplianceChecked
from sagas.disputes.ai.model import ModelEngine
from sagas.disputes.ai.rules import RulesEngine
from sagas.disputes.settings import DisputeSettings


class Engine(Protocol):
    """Classifies complaints and checks rationales."""

    async def classify(self, case: ClassifyCase, seconds: float) -> CaseClassified:
        """What a complaint is about. `seconds`: how long it may take."""

    async def check(self, case: CheckCompliance, seconds: float) -> ComplianceChecked:
        """Whether a rationale may be given to a regulator as it is."""


def engine_of(settings: DisputeSettings) -> Engine:
    """The engine that the settings ask for: a model where there is an address, else the bundled rules."""
    if not settings.model_url:
        return RulesEngine()
    return ModelEngine(
        settings.model_url,
        settings.model_name,
        key=settings.model_key.get_secret_value(),
        seconds_max=settings.model_seconds,
    )
