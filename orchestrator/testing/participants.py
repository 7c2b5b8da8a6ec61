"""Participants of a simulated world: effects, stored outcomes, fences. Crueller than real ones.

Rules of this file
- A key has at most one effect. A stored outcome is answered again, whatever is asked.
- A fence stores "never" for a key without an outcome; an undo first fences the key that it undoes (kernel rule 13).
- Anything may be lost before it is done, or done and its answer lost.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from orchestrator.kernel.effects import Outgoing
from orchestrator.kernel.inputs import Answer, Outcome, Purpose

Key = tuple[str, str]  # saga id, idempotency key


@dataclass(frozen=True, slots=True)
class Stored:
    """What a participant has decided for a key, for ever: ok, refused or not_done (fenced)."""

    outcome: Outcome
    data: Any = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that really happened outside: a do, or an undo of `undoes`."""

    saga_id: str
    activity: str
    key: str
    undoes: str = ""


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
    never: float = 0.0

    @classmethod
    def swarm(cls, random: Random) -> Rates:
        """Rates of one seed: each fault is off in half of the seeds."""
        rates = cls()
        ceilings = dict(
            refuse=0.3, error=0.4, lose=0.4, lose_answer=0.4, duplicate=0.5, late=0.5, undo_refuse=0.3,
            discard=0.3, cancel=0.1, operator=0.3, never=0.2,
        )  # fmt: skip
        for name, ceiling in ceilings.items():
            if random.random() < 0.5:
                setattr(rates, name, random.random() * ceiling)
        return rates


@dataclass(slots=True)
class Participants:
    """All participants of a world, with the history of their effects."""

    random: Random
    rates: Rates
    replies: Any  # callable: reply type name -> plain data
    stored: dict[Key, Stored] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    bodies: dict[Key, Any] = field(default_factory=dict)

    def obey(self, saga_id: str, message: Outgoing) -> Answer | None:
        """What a participant does with one delivery. None: lost, before or after it was done."""
        attributes = message.attributes
        key = (saga_id, attributes["idempotencykey"])
        first = self.bodies.setdefault(key, message.body)
        assert first == message.body, f"key {key[1]} came with two bodies"
        if self._happens(self.rates.lose):
            return None
        purpose = attributes["purpose"]
        if key not in self.stored and purpose in ("do", "undo") and self._happens(self.rates.error):
            return self._answer(message, "error", reason="simulated fault")
        found = self._settle(saga_id, message, key)
        if self._happens(self.rates.lose_answer):
            return None
        return self._answer(message, found.outcome, found.data, found.reason)

    def _settle(self, saga_id: str, message: Outgoing, key: Key) -> Stored:
        purpose, undoes = message.attributes["purpose"], message.attributes.get("undoes", "")
        if key in self.stored:
            found = self.stored[key]
            refused = purpose in ("do", "undo") and found.outcome == "not_done"
            return Stored("refused", reason="fenced") if refused else found
        if purpose in ("fence", "fence_undo"):
            if purpose == "fence" and self._happens(self.rates.never):
                return Stored("never", reason="simulated: cannot be known")
            self.stored[key] = Stored("not_done")
        elif purpose == "undo":
            self._undo(saga_id, message, key, undoes)
        elif self._happens(self.rates.refuse):
            self.stored[key] = Stored("refused", reason="simulated refusal")
        else:
            self.effects.append(Effect(saga_id, message.attributes["activity"], key[1]))
            self.stored[key] = Stored("ok", self.replies(message.type))
        return self.stored[key]

    def _undo(self, saga_id: str, message: Outgoing, key: Key, undoes: str) -> None:
        undone = (saga_id, undoes)
        self.stored.setdefault(undone, Stored("not_done"))
        if self._happens(self.rates.undo_refuse):
            self.stored[key] = Stored("refused", reason="simulated refusal of an undo")
            return
        if self.stored[undone].outcome == "ok":
            self.effects.append(Effect(saga_id, message.attributes["activity"], key[1], undoes))
        self.stored[key] = Stored("ok", {})

    def _happens(self, rate: float) -> bool:
        return rate > 0 and self.random.random() < rate

    def _answer(self, message: Outgoing, outcome: Outcome, data: Any = None, reason: str = "") -> Answer:
        attributes = message.attributes
        purpose: Purpose = attributes["purpose"]  # type: ignore[assignment]
        return Answer(
            purpose=purpose,
            activity=attributes["activity"],
            round=int(attributes["round"]),
            attempt=int(attributes["attempt"]),
            outcome=outcome,
            data=data,
            reason=reason,
            participant=message.target,
        )
