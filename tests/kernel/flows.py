"""Random scenarios: a random legal flow, and what the world around it says."""

from __future__ import annotations

from random import Random
from typing import Any

from orchestrator.kernel.effects import Outgoing
from orchestrator.testing.exploring import Scenario
from tests.kernel.flow_contracts import Fresh, Go, Nudge, Poke, Prod, Push, Work
from tests.kernel.flow_drawing import AIMED, Drawn, draw
from tests.kernel.flow_maker import THEMES

__all__ = ["AIMED", "THEMES", "draw", "reply", "scenario", "staged"]


def reply(message: Outgoing) -> dict[str, Any]:
    """The reply to a message of these flows."""
    return {"note": f"@{message.attributes['activity']}"} if message.type == Work.wire_name else {}


def scenario(random: Random, theme: str = "") -> Scenario | None:
    """A random scenario, or None where the draw was no legal flow."""
    drawn = draw(random, theme)
    return staged(drawn, theme) if drawn is not None else None


def staged(drawn: Drawn, theme: str = "") -> Scenario:
    """The scenario of a flow; some themes are more about faults than about flows."""
    return Scenario(
        programs={saga.name: saga.program for saga in (drawn.child, drawn.pivoted, drawn.parent)},
        name="parent",
        start_type=Go.wire_name,
        start_data={"id": "k", "size": 3},
        business_key="k",
        replies=reply,
        events=(
            *((event.wire_name, "k", {"id": "k"}) for event in (Poke, Prod, Push)),
            (Fresh.wire_name, "k", {"id": "k"}),
            *((Nudge.wire_name, key, {"id": key}) for key in drawn.keys),
        ),
        stress=theme if theme in AIMED else "",
    )
