"""explore: an author's saga through random replies, refusals, silences, duplicates, cancels and crashes.

    def test_a_transfer_ends_whatever_happens() -> None:
        explore(transfer, TransferRequested(transfer_id="t-1", ...), seeds=500)

Replies, forms and events are made from their contracts. After every turn an independent checker holds the stream
against the rules: undos in reverse order of completion, nothing undone before all is known, every end reached or
visibly stuck, every prefix refolds. A failure names its seed and prints the shortest schedule that shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields, replace
from functools import cache
from typing import Any, Protocol

from orchestrator.kernel.effects import Outgoing
from orchestrator.kernel.graph import Program
from orchestrator.kernel.turn import Limits
from orchestrator.messages.contract import Command, Contract, Event, Reply
from orchestrator.messages.examples import example_of
from orchestrator.testing.exploring import Plan, Report, Scenario, ScheduleError, explore_scenario, run_plan
from orchestrator.testing.exploring.faults import Rates
from orchestrator.testing.exploring.world import Aim

SHRINKS_MAX = 300
VARIATIONS = 16  # of start data and replies, in turn


class Explorable(Protocol):
    """A saga, as its definition gives it."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def starts_on(self) -> tuple[type[Contract], ...]:
        """The events or commands that start it."""

    @property
    def program(self) -> Program:
        """Its graph and its functions."""

    @property
    def contracts(self) -> tuple[type[Contract], ...]:
        """Every contract that it uses."""

    @property
    def children(self) -> tuple[Any, ...]:
        """The sagas that it calls."""


class ExploredError(AssertionError):
    """A schedule broke a rule. `seed` repeats it: `explore(saga, start, seeds=[seed])`."""

    def __init__(self, found: ScheduleError, tries: int) -> None:
        self.seed, self.broken, self.tries = found.seed, str(found.cause), tries
        self.lines = list(found.log)  # the shortest schedule that shows it, in words
        super().__init__(
            f"{self.broken}\nseed {found.seed}; repeat it with explore(saga, start, seeds=[{found.seed}])\n"
            f"the shortest of {tries} schedules that show it:\n" + "\n".join(self.lines)
        )


def explore(
    saga: Explorable,
    start: Event | Command[Any],
    *,
    seeds: int | Iterable[int] = 500,
    replies: Iterable[Reply] = (),
) -> Report:
    """Runs one schedule per seed; `replies` replace the examples of their types. Returns how the schedules ended.

    Raises ExploredError for the first schedule that breaks a rule, with its seed and its shortest form.
    """
    scenario = scenario_of(saga, start, replies)
    try:
        return explore_scenario(scenario, range(seeds) if isinstance(seeds, int) else seeds)
    except ScheduleError as error:
        found, tries = shorten(scenario, error)
        raise ExploredError(found, tries) from error.cause


def simulate(saga: Explorable, seeds: Iterable[int]) -> Report:
    """As `explore`, with start data and replies made from the contracts' examples, in several varieties.

    A seed always gives the same schedule. Raises ExploredError for the first that breaks a rule, ContractError where
    no example can be made.
    """
    report = Report()

    @cache
    def varied(variation: int) -> Scenario:
        start = saga.starts_on[variation % len(saga.starts_on)]
        made = start.from_plain(example_of(start, variation=variation))
        return scenario_of(saga, made, variation=variation)  # type: ignore[arg-type]

    for seed in seeds:
        scenario = varied(seed % VARIATIONS)
        try:
            report.add(explore_scenario(scenario, [seed]))
        except ScheduleError as error:
            found, tries = shorten(scenario, error)
            raise ExploredError(found, tries) from error.cause
    return report


def scenario_of(
    saga: Explorable, start: Event | Command[Any], replies: Iterable[Reply] = (), variation: int = 0
) -> Scenario:
    """The scenario of a saga with its children: what they say is made from their contracts."""
    sagas = {found.name: found for found in _family(saga)}
    contracts = {contract.wire_name: contract for found in sagas.values() for contract in found.contracts}
    own = {reply.wire_name: reply.plain() for reply in replies}
    example = cache(lambda name: example_of(contracts[name], variation=variation))

    def reply(message: Outgoing) -> Any:
        command = contracts[message.type]
        assert issubclass(command, Command)
        name = command.reply_type.wire_name
        return own[name] if name in own else example(name) if name in contracts else {}

    def event(type_: str, key: str) -> Any:
        made = dict(example(type_))
        names = contracts[type_].key_fields
        if len(names) == 1 and isinstance(made.get(names[0]), str):
            made[names[0]] = key
        return made

    return Scenario(
        programs={name: found.program for name, found in sagas.items()},
        name=saga.name,
        start_type=start.wire_name,
        start_data=start.plain(),
        business_key=start.key(),
        replies=reply,
        event_data=event,
        form_data=lambda name: dict(example(name)) if name in contracts else {},
    )


def _family(saga: Explorable) -> Iterator[Explorable]:
    yield saga
    for child in saga.children:
        yield from _family(child)


def shorten(scenario: Scenario, found: ScheduleError) -> tuple[ScheduleError, int]:
    """The shortest schedule that breaks a rule in the same way, and how many were tried: faults dropped, then steps."""
    plan, tries = Plan.of(found.seed, scenario.limits, scenario.stress), 0
    shortest = found
    again = True
    while again and tries < SHRINKS_MAX:
        again = False
        for smaller in _smaller(plan):
            tries += 1
            failed = _fails(scenario, smaller, found)
            if failed is not None:
                plan, shortest, again = smaller, failed, True
                break
            if tries >= SHRINKS_MAX:
                break
    return shortest, tries


def _smaller(plan: Plan) -> Iterator[Plan]:
    if plan.aim.record:
        yield replace(plan, aim=Aim())
    if plan.limits != Limits():
        yield replace(plan, limits=Limits())
    for found in fields(Rates):
        if getattr(plan.rates, found.name):
            yield replace(plan, rates=plan.rates.without(found.name))
    for steps in dict.fromkeys((plan.steps // 2, plan.steps * 3 // 4, plan.steps - 1)):
        if 0 <= steps < plan.steps:
            yield replace(plan, steps=steps)


def _fails(scenario: Scenario, plan: Plan, found: ScheduleError) -> ScheduleError | None:
    try:
        run_plan(scenario, plan)
    except ScheduleError as error:
        return error if type(error.cause) is type(found.cause) else None
    return None
