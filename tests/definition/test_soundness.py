"""The promise of the check: what it accepts is there when the function is called, whatever happens on the way.

Accepted flows, real ones and random ones, run through hostile schedules of the kernel: refusals, silences, cancels,
interruptions, lost answers, duplicates. No function may ever miss what it asks for.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from orchestrator import Saga
from orchestrator.kernel import inject
from orchestrator.kernel.graph import Param, node_path
from orchestrator.testing.exploring.explore import Scenario, ScheduleError, run_plan
from orchestrator.testing.exploring.faults import Rates
from orchestrator.testing.exploring.planning import Plan
from tests.definition.claims import claims, payout
from tests.definition.orders import order
from tests.definition.random_flows import draw
from tests.definition.transfers import transfer

RANDOM_FLOWS = 60
SCHEDULES = 12


class Calls:
    """What functions asked for: (node, parameter, want) → how often it was there, and what was missing."""

    def __init__(self) -> None:
        self.there: Counter[tuple[str, str, str]] = Counter()
        self.missing: list[str] = []

    def watch(self, original: Any) -> Any:
        """The kernel's own way of filling a parameter, with a tally."""

        def argument(program: Any, state: Any, activity: str, param: Param, now: int) -> Any:
            try:
                value = original(program, state, activity, param, now)
            except LookupError as error:
                self.missing.append(f"{activity}: {param.name}: {error}")
                raise
            self.there[node_path(activity), param.name, param.want] += value is not None
            return value

        return argument


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Watches every parameter that the kernel fills."""
    found = Calls()
    monkeypatch.setattr(inject, "_argument", found.watch(inject._argument))
    return found


def run(  # half of the schedules are mild, so that flows are seen to their end, too
    saga: Saga[Any],
    start: dict[str, Any],
    events: tuple[tuple[str, str, Any], ...],
    *children: Saga[Any],
    schedules: int = SCHEDULES,
) -> None:
    """Runs a saga through schedules. What else a schedule may find wrong is the business of other tests."""
    contracts: dict[str, Any] = {c.wire_name: c for one in (saga, *children) for c in one.contracts}

    def reply(message: Any) -> dict[str, Any]:
        fields = contracts[message.type].reply_type.model_fields
        return {name: "x" if field.annotation is str else 1 for name, field in fields.items()}

    scenario = Scenario(
        programs={one.name: one.program for one in (saga, *children)},
        name=saga.name,
        start_type=saga.graph.starts_on[0],
        start_data=start,
        business_key="o",
        replies=reply,
        events=events,
    )
    for seed in range(schedules):
        try:
            plan = Plan.of(seed)
            run_plan(scenario, plan if seed % 2 else replace(plan, rates=Rates(refuse=0.02, lose=0.02, cancel=0.02)))
        except ScheduleError:
            continue


@pytest.mark.parametrize("seed", range(RANDOM_FLOWS))
def test_an_accepted_flow_is_never_short(seed: int, calls: Calls) -> None:
    saga = draw(seed)
    if saga is not None:
        key = {"order_id": "o"}
        run(saga, {"order_id": "o", "amount": 3}, (("world.Paid", "o", key), ("world.Cancelled", "o", key)))
    assert calls.missing == []


def test_the_real_processes_are_never_short(calls: Calls) -> None:
    withdrawn = ("transfers.TransferWithdrawn", "o", {"transfer_id": "o"})
    request = {"transfer_id": "o", "session_id": "s", "user_id": "u", "from_account": "a", "to_account": "b"}
    run(transfer, {**request, "amount": "6000"}, (withdrawn,))
    cancelled = ("orders.OrderCancelled", "o", {"order_id": "o", "reason": "no"})
    run(order, {"order_id": "o", "customer_id": "c", "amount": "5"}, (cancelled,))
    events = [("claims.ItemAppraised", f"o|{item}", {"claim_id": "o", "item": item, "worth": 5}) for item in range(2)]
    events.append(("claims.PhotosSent", "o", {"claim_id": "o", "count": 2}))
    events.append(("claims.ClaimWithdrawn", "o", {"claim_id": "o"}))
    run(claims, {"claim_id": "o", "customer": "u", "items": 2}, tuple(events), payout, schedules=60)
    assert calls.missing == []
    assert calls.there["hold_funds.scope/hold_funds", "held", "one"], "an undo was built"
    assert calls.there["on_failed/order_failed", "cancelled", "optional"]
    assert calls.there["open_file.scope/items/block_item.scope/block_item", "item", "one"]


def test_the_random_flows_are_worth_running() -> None:
    """Enough of them are accepted, with functions that ask for one thing and not only for lists."""
    accepted = [saga for seed in range(RANDOM_FLOWS) if (saga := draw(seed)) is not None]
    wants = Counter(
        param.want
        for saga in accepted
        for key, function in saga.program.functions.items()
        if function.name.startswith(("watch", "undo"))
        for param in function.params
    )
    assert len(accepted) > RANDOM_FLOWS // 3
    assert wants["one"] > 40
    assert wants["many"] > 3
