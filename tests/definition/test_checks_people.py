"""ORC406 and ORC407, and ladders that can be climbed (ORC234)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from orchestrator import Escalate, Limit, Money, Person, Role, WorkingTime, task
from tests.definition.world import Placed, codes, note, saga

HOUR = timedelta(hours=1)
TEN, HUNDRED = Money("10", "INR"), Money("100", "INR")


class Seen(BaseModel):
    """What is shown."""

    total: int = 1


def money(shown: Seen) -> Money:
    """What is decided about."""
    return Money(shown.total, "INR")


def two(shown: Seen, more: Seen) -> Money:
    """Takes too much."""
    return TEN


def number(shown: Seen) -> int:
    """Gives no Money."""
    return shown.total


def asked(**options: Any) -> Any:
    """A task with these options."""

    def decide(placed: Placed) -> Seen:
        return Seen()

    return task(**{"to": Role("boss"), "within": 8 * HOUR, **options})(decide)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"limits": [Limit(Role("boss"), TEN)]}, "ORC406"),
        ({"amount": money}, "ORC406"),
        ({"amount": money, "limits": [Limit(Role("boss"), TEN), Limit(Role("boss"), HUNDRED)]}, "ORC406"),
        ({"amount": money, "limits": [Limit(Role("boss")), Limit(Role("boss"))]}, "ORC406"),
        ({"amount": two, "limits": [Limit(Role("boss"), TEN)]}, "ORC406"),
        ({"amount": number, "limits": [Limit(Role("boss"), TEN)]}, "ORC406"),
        ({"catch_up": "first"}, "ORC406"),
        ({"confirm": TEN}, "ORC406"),
        ({"amount": money, "confirm": [TEN, HUNDRED]}, "ORC406"),
        ({"amount": number, "confirm": TEN}, "ORC406"),
        ({"amount": money, "confirm": TEN}, ""),
        ({"amount": money, "confirm": [TEN, Money("1", "EUR")]}, ""),
        ({"amount": money, "confirm": True}, ""),
        ({"confirm": True}, ""),
        ({"amount": money, "limits": [Limit(Role("boss"), TEN), Limit(Role("boss"), Money("1", "EUR"))]}, ""),
        ({"amount": lambda shown: TEN, "limits": [Limit(Person("mia"), TEN), Limit(Role("mia"), TEN)]}, ""),
        ({"amount": lambda shown: TEN, "limits": [Limit(Person("mia"), TEN), Limit(Role("boss"))]}, ""),
        ({"within": WorkingTime(hours=8, calendar="MH-Moon")}, "ORC407"),
        ({"remind": [WorkingTime(hours=1, calendar="MH-Moon")]}, "ORC407"),
        ({"escalate": [Escalate(WorkingTime(hours=1, calendar="MH-Moon"), Role("x"))]}, "ORC407"),
        ({"within": WorkingTime(hours=8, calendar="IN-Mumbai")}, ""),
        ({"within": WorkingTime(calendar="always")}, "ORC234"),
        ({"remind": [8 * HOUR]}, "ORC234"),
        ({"remind": [timedelta(0)]}, "ORC234"),
        ({"escalate": [Escalate(8 * HOUR, Role("x"))]}, "ORC234"),
        ({"escalate": [Escalate(2 * HOUR, Role("x"), reset_sla=True), Escalate(9 * HOUR, Role("y"))]}, ""),
        ({"escalate": [Escalate(2 * HOUR, Role("x"), reset_sla=True)], "remind": [9 * HOUR]}, ""),
        ({"escalate": [Escalate(WorkingTime(hours=9, calendar="always"), Role("x"))]}, ""),
    ],
)
def test_what_can_never_hold_is_refused_where_it_is_written(options: dict[str, Any], code: str) -> None:
    """Only what is measured alike is compared: nine working hours may be less than eight."""
    if code:
        assert codes(asked(**options), note) == [code]
    else:
        saga(asked(**options), note)
