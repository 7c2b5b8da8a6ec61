"""Notices and rows as tests need them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from orchestrator.notices.contract import Notice
from orchestrator.notices.texts import Told

AT = 1_763_800_200_000_000  # 2025-11-22 08:30 UTC

FACTS: dict[str, Any] = {
    "task": "3f0c:approval",
    "saga": "transfer",
    "business_key": "TR-1001",
    "title": "Approval",
    "to": ["person:maria"],
    "at": "2025-11-22T08:30:00Z",
    "level": 0,
    "outcome": "",
    "saga_id": "3f0c",
    "link": "https://bank.example/office/tasks/3f0c:approval",
    "due": None,
}


def notice(**changes: Any) -> Notice:
    """A notice to maria, with changes."""
    plain = Notice(
        id="n-1",
        tenant="main",
        kind="opened",
        who="person:maria",
        address="maria@bank.example",
        subject="To decide: Approval",
        text="A decision is waiting for you.\nhttps://bank.example/office/tasks/3f0c:approval\n",
        html="<p>A decision is waiting for you.</p>",
        planned_at=AT,
        facts=dict(FACTS),
    )
    return replace(plain, **changes)


def told(**changes: Any) -> Told:
    """A row of the outbox, with changes."""
    plain = Told(
        id=1,
        tenant="main",
        saga_id="3f0c",
        version=4,
        activity="approval",
        kind="opened",
        who="person:maria",
        channel="mail",
        address="maria@bank.example",
        planned_at=AT,
        facts=dict(FACTS),
    )
    return replace(plain, **changes)
