"""The shape of one schedule: which faults at which rates, one aimed fault, and the limits of a turn."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from orchestrator.kernel.turn import Limits
from orchestrator.testing.exploring.faults import Rates
from orchestrator.testing.exploring.world import Aim

HOSTILE_STEPS_MAX = 300
AIMED_AT = (
    "", "", "", "pivot", "pivot", "step.requested", "step.succeeded", "step.failed", "step.refused", "fence.requested",
    "fence.failed", "undo.requested", "undo.failed", "undo.taken_over", "undo.handed", "undo.planned",
    "compensation.started", "scope.entered", "scope.interrupted", "scope.failing", "scope.undo_planned",
    "child.requested", "child.completed", "task.opened", "task.voted", "event.awaited", "saga.failing", "saga.stuck",
    "evidence.proposed", "operator.settled", "saga.completed", "operator.retried",
)  # fmt: skip
AIMED_ACTS = ("cancel", "cancel", "redeliver", "downtime", "newest", "event", "operate", "unsent")

RARE = (
    Aim("saga.stuck", "settle"), Aim("saga.stuck", "settle"), Aim("saga.stuck", "take_over"),
    Aim("undo.handed", "operate"), Aim("pivot", "cancel"), Aim("step.requested", "unsent"),
    Aim("saga.stuck", "operate"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stress:
    """Faults aimed at a situation that chance seldom gives: where to strike, and rates that are at least so high."""

    aims: tuple[Aim, ...]
    rates: dict[str, float]
    calm: bool = False  # nothing else goes wrong


_UNKNOWABLE = {"started": 0.5, "never": 0.4, "lose": 0.2, "operator": 0.6}
STRESS = {
    "owing": Stress(
        (Aim("saga.stuck", "settle"), Aim("fence.owed", "push"), Aim("saga.stuck", "push")),
        {"started": 0.3, "in_doubt": 0.4, "lose": 0.4, "operator": 0.6, "wrong_evidence": 0.4, "wrong_operator": 0.2},
    ),
    "hands": Stress(
        (
            Aim("saga.stuck", "take_over"),
            Aim("undo.taken_over", "operate"),
            Aim("undo.requested", "redeliver"),
            Aim("undo.handed", "cancel"),
            Aim("undo.taken_over", "cancel"),
            Aim("undo.handed", "operate"),
        ),
        _UNKNOWABLE | {"undo_refuse": 0.4, "wrong_operator": 0.4, "cancel": 0.05, "lose_answer": 0.3},
    ),
    "late": Stress((Aim("pivot", "cancel"), Aim("pivot", "downtime")), {"lose": 0.3, "replay": 0.1}),
    "pivots": Stress(
        (Aim("step.succeeded", "cancel_parent"), Aim("pivot", "cancel_parent"), Aim("step.requested", "cancel_parent")),
        {"lose_answer": 0.2},
    ),
    "calls": Stress((Aim("child.requested", "redeliver"),), {"busy": 0.4, "operator": 0.6, "replay": 0.2}),
    "pivoting": Stress(
        (
            Aim("pivot", "unsent"),
            Aim("saga.stuck", "settle"),
            Aim("pivot", "cancel"),
            Aim("operator.settled", "cancel"),
        ),
        {"operator": 0.8, "cancel": 0.15, "lose": 0.6, "wrong_evidence": 0.2},
    ),
    "unsent": Stress((Aim(),), {"send_refused": 0.2, "operator": 0.5, "cancel": 0.05}),
    "onward": Stress((Aim(),), {"error": 0.4, "lose": 0.4}),
    "racing": Stress((Aim("event.awaited", "event"), Aim()), {"duplicate": 0.2, "late": 0.3, "edge": 0.1}, calm=True),
    "voting": Stress(
        (Aim("task.voted", "event"), Aim("task.opened", "downtime"), Aim()),
        {"wrong_person": 0.6, "discard": 0.1, "replay": 0.1, "downtime": 0.05, "cancel": 0.02, "raises": 0.05},
        calm=True,
    ),
    "desk": Stress(
        (Aim("task.opened", "downtime"), Aim("task.voted", "event"), Aim("task.delegated", "downtime"), Aim(), Aim()),
        {"desk": 0.7, "discard": 0.1, "replay": 0.1, "downtime": 0.08, "cancel": 0.01, "edge": 0.1, "raises": 0.02},
        calm=True,
    ),
    "keeping": Stress((Aim("undo.requested", "newest"), Aim()), {"late": 0.5}),
    "carrying": Stress(
        (Aim("undo.requested", "cancel"), Aim("undo.requested", "newest"), Aim()),
        {"undo_refuse": 0.3, "lose": 0.3, "late": 0.5},
    ),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """One schedule's shape: what the seed draws, or less of it when a failure is made smaller."""

    seed: int
    rates: Rates
    steps: int
    aim: Aim
    limits: Limits

    @classmethod
    def of(cls, seed: int, limits: Limits | None = None, stress: str = "") -> Plan:
        """What this seed draws."""
        random = Random(f"plan {seed}")  # noqa: S311 - a schedule must be repeatable, not secret
        rates = Rates.swarm(random)
        aim = Aim(random.choice(AIMED_AT), random.choice(AIMED_ACTS))
        if stress:
            found = STRESS[stress]
            aim = random.choice(found.aims)
            rates = Rates() if found.calm else rates
            rates = rates.with_(**{name: max(getattr(rates, name), least) for name, least in found.rates.items()})
        elif random.random() < 0.25:  # situations that chance reaches seldom
            aim = random.choice(RARE)
            rates.wrong_operator, rates.operator = rates.wrong_operator / 2, 0.5
            rates.lose = max(rates.lose, 0.2)
        return cls(seed, rates, random.randrange(HOSTILE_STEPS_MAX), aim, limits or _drawn(random))


def _drawn(random: Random) -> Limits:
    """Limits that are sometimes tiny; dangerous acts of operators need two people, or one."""
    most = random.choice([5, 20, 40]) if random.random() < 0.06 else Limits().message_bytes_max
    records = random.choice([1, 2, 3, 400, 400, 400])
    two = frozenset({"done", "value", "skip"}) if random.random() < 0.4 else frozenset()
    return Limits(turn_records_max=records, message_bytes_max=most, two_people=two)
