"""What goes wrong in a schedule, how often, and how often it really did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from random import Random


@dataclass(slots=True)
class Rates:
    """How often things go wrong, as shares of 1. Every seed draws its own, zero included (swarm)."""

    refuse: float = 0.0
    error: float = 0.0
    lose: float = 0.0
    lose_answer: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    undo_refuse: float = 0.0
    discard: float = 0.0  # a decided turn is thrown away, as after a failed commit, and decided again
    cancel: float = 0.0
    operator: float = 0.0
    started: float = 0.0  # an outside effect whose outcome the participant does not know yet
    in_doubt: float = 0.0
    never: float = 0.0
    replay: float = 0.0  # something that was delivered long ago comes once more
    raises: float = 0.0  # a user function raises
    wrong_person: float = 0.0  # excluded, repeated, ineligible, stale or late votes
    wrong_operator: float = 0.0  # stale versions, acts that do not fit
    wrong_evidence: float = 0.0
    send_refused: float = 0.0
    downtime: float = 0.0
    edge: float = 0.0  # an event arrives at the very instant at which a limit ends
    busy: float = 0.0  # a child does not start: another run of its key lives
    contradict: float = 0.0  # an answer that was given comes again, and says the contrary
    desk: float = 0.0  # claims, substitutes, reassignments, comments: how busy people are; no fault, so not in a swarm

    @classmethod
    def swarm(cls, random: Random) -> Rates:
        """Rates of one seed: each fault is off in half of the seeds."""
        rates = cls()
        for name, ceiling in _CEILINGS.items():
            if random.random() < 0.5:
                setattr(rates, name, random.random() * ceiling)
        return rates

    def without(self, name: str) -> Rates:
        """The same rates with one fault switched off."""
        return self.with_(**{name: 0.0})

    def with_(self, **changed: float) -> Rates:
        """The same rates but for these."""
        return Rates(**{found.name: getattr(self, found.name) for found in fields(self)} | changed)


_CEILINGS = {
    "refuse": 0.3, "error": 0.4, "lose": 0.4, "lose_answer": 0.4, "duplicate": 0.5, "late": 0.5, "undo_refuse": 0.3,
    "discard": 0.3, "cancel": 0.1, "operator": 0.5, "started": 0.3, "in_doubt": 0.5, "never": 0.4, "replay": 0.2,
    "raises": 0.15, "wrong_person": 0.5, "wrong_operator": 0.5, "wrong_evidence": 0.3, "send_refused": 0.05,
    "downtime": 0.1, "edge": 0.3, "busy": 0.1, "contradict": 0.5,
}  # fmt: skip

WORDS = {
    "refuse": "a participant refused", "error": "a participant failed", "lose": "a message was lost",
    "lose_answer": "an answer was lost", "duplicate": "a message came twice", "late": "messages overtook each other",
    "undo_refuse": "a participant refused an undo", "discard": "a commit failed and was decided again",
    "cancel": "somebody cancelled", "operator": "an operator acted", "started": "an effect was left in doubt",
    "in_doubt": "a participant did not know yet", "never": "an outcome could never be known",
    "replay": "something came again, long after", "raises": "a function raised",
    "wrong_person": "somebody voted who may not, or too late", "wrong_operator": "an operator was wrong",
    "wrong_evidence": "evidence was wrong", "send_refused": "the broker refused a message for good",
    "downtime": "everything stood still for hours", "edge": "an event came as the time ended",
    "busy": "a child could not start", "contradict": "an answer contradicted an earlier one",
    "desk": "people worked on an open task",
}  # fmt: skip


@dataclass(slots=True)
class Faults:
    """Draws faults at their rates, and counts them."""

    random: Random
    rates: Rates
    fired: Counter[str] = field(default_factory=Counter)

    def happens(self, name: str) -> bool:
        """Does it happen now? Draws only where it may."""
        rate: float = getattr(self.rates, name)
        if rate > 0 and self.random.random() < rate:
            self.fired[name] += 1
            return True
        return False
