"""A saga that makes many records in one go."""

from __future__ import annotations

from orchestrator import Event, Key, Saga, compute, for_each


class Many(Event, context="many"):
    """Starts it."""

    many_id: Key[str]
    count: int


def numbers(many: Many) -> list[int]:
    return list(range(many.count))


def double(number: int) -> float:
    return number * 2.0


many = Saga("many", version=1, starts_on=Many, flow=[for_each(numbers, compute(double))])
