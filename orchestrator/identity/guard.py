"""The same rules, asked again where an act is decided: with the saga as it is loaded and locked in the transaction.

Rules of this file
- A guard is made from who acts, travels with the act, and answers from the folded state; it costs no statement.
- An input without an action in the table may nobody send: whoever adds a kind of act names its action here.
- A start is asked by the action that its route has stated: packages have routes of their own for it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.activation.definition import ActivateDefinition
from orchestrator.api.views import Actor
from orchestrator.identity.amounts import amounts
from orchestrator.identity.rules import FRESH_SECONDS, Thing, authorise
from orchestrator.kernel.inputs import Input, Refusal, Start, TaskAct
from orchestrator.kernel.state import State
from orchestrator.runtime.work import Guard

START = "saga.start"
ACTIVATE = "definition.activate"
ACTION_OF_INPUT = {
    "Start": START,
    "Vote": "task.decide",
    "Cancel": "saga.cancel",
    "Operate": "saga.operate",
    "TaskAct": "task.work",
}

# Starts whose content is evidence: no client writes it, the route that may makes it.
ACTION_OF_START = {ActivateDefinition.wire_name: ACTIVATE}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def guard_of(actor: Actor, *, starts: str = START) -> Guard:
    """What asks whether this actor may send an input to a saga; see `orchestrator.runtime.work.Guard`.

    `starts`: the action by which they may start one.
    """

    def guard(given: Input, saga_id: str, tenant: str, state: State | None) -> Refusal | None:
        action = starts if isinstance(given, Start) else action_of(given)
        type_ = given.type if isinstance(given, Start) else ""
        own = ACTION_OF_START.get(type_, action)
        if action != own:
            return Refusal("not_allowed", f"{type_} comes by a route of its own, which says what is true: {own}")
        since = _fresh_since(actor, given, state) if action == "task.decide" else None
        refused = authorise(actor, action, Thing(tenant, "saga", saga_id, fresh_since=since))
        return Refusal(refused.code, refused.text, dict(refused.facts)) if refused is not None else None

    return guard


def action_of(given: Input) -> str:
    """The action of the table that an input is. Directing other people's work is another one than working."""
    if isinstance(given, TaskAct) and (given.act == "reassign" or given.steers):
        return "task.reassign"
    return ACTION_OF_INPUT.get(type(given).__name__, type(given).__name__)


def _fresh_since(actor: Actor, given: Any, state: State | None) -> datetime | None:
    """Since when the actor must have signed in to decide this task; None where its amounts are small."""
    found = state.activities.get(given.activity) if state is not None else None
    if found is None or found.task is None or not actor.fresh_above:
        return None
    limits = dict(actor.fresh_above)
    fresh = EPOCH + timedelta(microseconds=given.received_at) - timedelta(seconds=FRESH_SECONDS)
    if found.task.limits and not found.task.amount:
        return fresh  # it is about an amount, and nobody can tell which
    measured = [found.task.amount] if found.task.amount else []  # what the definition says the amount is
    for currency, amount in amounts([found.task.shown, *measured]):
        unnamed = min(limits.values()) if not currency else None
        limit = limits.get(currency, limits.get("*", unnamed))
        if amount.is_infinite() or (limit is not None and amount >= limit):
            return fresh
    return None
