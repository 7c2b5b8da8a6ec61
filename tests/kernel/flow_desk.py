"""Flows of little else than tasks with ladders, reminders, limits and four eyes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from orchestrator import Escalate, Limit, Money, Person, Role, Saga, task
from tests.kernel.flow_contracts import Fresh, Shown
from tests.kernel.flow_maker import Maker

LIMITS = (
    Limit(Role("boss"), Money("100", "INR")),
    Limit(Role("boss"), Money("5", "EUR")),
    Limit(Role("chief"), Money("1000", "INR")),
    Limit(Person("p2"), Money("200", "INR")),
    Limit(Role("level1")),
)
AMOUNTS = ("100 INR", "100.01 INR", "150 INR", "5 EUR", "6 EUR", "1 USD")


def desk(maker: Maker, name: str, starts_on: Any) -> Saga[Any]:
    """A few decisions, each of which may exclude the voters of those before."""
    flow: list[Any] = [maker.step()]
    for _ in range(maker.random.choice([1, 1, 2, 3])):
        made = _decision(maker, [word for word in flow if hasattr(word, "exclude")])
        flow.append(made.amend_on(Fresh) if maker.random.random() < 0.6 else made)
    return Saga(name, version=1, starts_on=starts_on, flow=flow)


def _decision(maker: Maker, before: list[Any]) -> Any:
    random = maker.random
    hours = sorted(random.sample([1, 3, 5, 7, 10], random.choice([0, 1, 2, 3])))
    resets = [random.random() < 0.5 for _ in hours]
    kept = [hour for number, hour in enumerate(hours) if hour < 8 or any(resets[:number])]
    levels = [
        Escalate(timedelta(hours=hour), Role(f"level{hour}"), reset_sla=reset)
        for hour, reset in zip(hours, resets, strict=True)
        if hour in kept
    ]
    limited: dict[str, Any] = {"amount": _amount, "limits": LIMITS} if random.random() < 0.5 else {}
    exclude: list[Any] = [_excluded(maker)] if random.random() < 0.5 else []
    exclude += [random.choice(before)] if before and random.random() < 0.7 else []
    to: Any = random.choice([Role("boss"), [Role("boss"), Role("chief")], [Role("chief"), Person("p2")]])
    catch_up: Any = random.choice(["each", "last"])
    return task(
        to=to,
        within=timedelta(hours=8),
        votes=random.choice([1, 2, 2]),
        exclude=exclude,
        escalate=levels,
        remind=[timedelta(hours=hour) for hour in random.sample([1, 2, 4, 6], random.choice([0, 0, 1, 2, 3]))],
        catch_up=catch_up,
        **limited,
    )(_shown(maker))


def _amount(shown: Shown) -> Money:
    return Money(*shown.text.split())


def _shown(maker: Maker) -> Callable[..., Any]:
    """What is shown follows what amends it."""
    first, then = maker.random.choice(AMOUNTS), maker.random.choice(AMOUNTS)

    def made(fresh: Fresh | None) -> Shown:
        return Shown(text=then if fresh else first)

    made.__name__ = made.__qualname__ = maker.name("t")
    return made


def _excluded(maker: Maker) -> Callable[..., Any]:
    """Who is excluded follows it too."""

    def made(fresh: Fresh | None) -> Person:
        return Person("p4" if fresh else "p1")

    made.__name__ = made.__qualname__ = maker.name("x")
    return made
