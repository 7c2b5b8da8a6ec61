"""Participants of a simulated world: effects, stored outcomes, fences. Crueller than real ones.

Rules of this file
- A key has at most one effect. A stored outcome is answered again, whatever is asked.
- A fence stores "never" for a key without an outcome; an undo first fences the key that it undoes (kernel rule 13).
- Anything may be lost before it is done, or done and its answer lost; an effect may be outside and in doubt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.kernel.effects import Outgoing
from orchestrator.kernel.inputs import Answer, Outcome, Purpose
from orchestrator.testing.exploring.faults import Faults

Key = tuple[str, str]  # saga id, idempotency key
MINUTE = 60_000_000


@dataclass(frozen=True, slots=True)
class Stored:
    """What a participant has decided for a key, for ever: ok, refused, not_done (fenced) or never (unknowable)."""

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
class Participants:
    """All participants of a world, with the history of their effects."""

    faults: Faults
    replies: Callable[[Outgoing], Any]  # a plain reply to a message
    reads: Callable[[str, str], bool] = lambda saga, activity: False  # has this step no effect at all?
    stored: dict[Key, Stored] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    bodies: dict[Key, Any] = field(default_factory=dict)
    asked: dict[Key, Outgoing] = field(default_factory=dict)
    started: dict[Key, Outgoing] = field(default_factory=dict)  # done or not: only the outside knows
    under: dict[Key, str] = field(default_factory=dict)  # key -> the earlier key that did it

    def obey(self, saga_id: str, message: Outgoing, now: int = 0) -> Answer | None:
        """What a participant does with one delivery. None: lost, before or after it was done."""
        attributes = message.attributes
        key = (saga_id, attributes["idempotencykey"])
        first = self.bodies.setdefault(key, message.body)
        if first != message.body:
            raise AssertionError(f"key {key[1]} came with two bodies (V7)")
        if attributes["purpose"] in ("do", "fence"):
            self.asked.setdefault(key, message)
        if self.faults.happens("lose"):
            return None
        found = self._unresolved(message, key, now) or self._earlier(saga_id, message, key, now)
        if found is None:
            if key not in self.stored and self.faults.happens("error"):
                return self._answer(message, Stored("error", reason="simulated fault"))
            found = self._settle(saga_id, message, key)
        if self.faults.happens("lose_answer"):
            return None
        return self._answer(message, found, until=now + MINUTE if found.outcome == "in_doubt" else 0)

    def typed(self, key: Key) -> Any:
        """The reply that a person types by hand: what was answered, or what could have been."""
        stored = self.stored.get(key)
        if stored is not None and stored.outcome == "ok":
            return stored.data
        return self.replies(self.asked[key]) if key in self.asked else None

    def _unresolved(self, message: Outgoing, key: Key, now: int) -> Stored | None:
        """A key whose effect was started outside is resolved first, or in doubt, or never known."""
        if key not in self.started:
            return None
        if self.faults.happens("in_doubt"):
            fences = message.attributes["purpose"].startswith("fence")
            return Stored("in_doubt") if fences else Stored("error", reason="in doubt")
        if self.faults.happens("never"):
            del self.started[key]
            self.stored[key] = Stored("never", reason="simulated: cannot be known")
            return None
        asked = self.started.pop(key)
        if any((effect.saga_id, effect.key) == key for effect in self.effects):
            self.stored[key] = Stored("ok", self.replies(asked))
        return None

    def _earlier(self, saga_id: str, message: Outgoing, key: Key, now: int) -> Stored | None:
        """Keys of earlier rounds come first: what was done under one answers under it, the others are fenced."""
        for earlier in message.attributes.get("earlier", "").split():
            old = (saga_id, earlier)
            if found := self._unresolved(message, old, now):
                return found
            done = self.stored.setdefault(old, Stored("not_done"))
            if done.outcome == "ok" and key not in self.stored:
                self.under[key] = earlier
                self.stored[key] = Stored("ok", done.data)
        return None

    def _settle(self, saga_id: str, message: Outgoing, key: Key) -> Stored:
        purpose, undoes = message.attributes["purpose"], message.attributes.get("undoes", "")
        if key in self.stored:
            found = self.stored[key]
            if purpose in ("do", "undo") and found.outcome == "never":
                return Stored("never" if purpose == "do" else "error", reason="what happened can never be known")
            refused = purpose in ("do", "undo") and found.outcome == "not_done"
            return Stored("refused", reason="fenced") if refused else found
        if purpose == "fence":
            self.stored[key] = Stored("not_done")
        elif purpose == "fence_undo":
            self._fence_undo((saga_id, undoes), key)
        elif purpose == "undo":
            self._undo(saga_id, message, key, undoes)
        elif self.faults.happens("refuse"):
            self.stored[key] = Stored("refused", reason="simulated refusal")
        else:
            self._do(saga_id, message, key)
        return self.stored.get(key, Stored("error", reason="crashed on the way"))

    def _do(self, saga_id: str, message: Outgoing, key: Key) -> None:
        done = Effect(saga_id, message.attributes["activity"], key[1])
        if not self.reads(saga_id, done.activity) and self.faults.happens("started"):
            self.started[key] = message
            if self.faults.random.random() < 0.5:
                self.effects.append(done)
            return
        self.effects.append(done)
        self.stored[key] = Stored("ok", self.replies(message))

    def _fence_undo(self, undone: Key, key: Key) -> None:
        """A take-over: the undo's own key and the key that it undoes. No effect at all means undone."""
        target = self._target(undone)
        nothing = self.stored.setdefault(target, Stored("not_done")).outcome in ("not_done", "refused")
        self.stored[key] = Stored("ok", {}) if nothing else Stored("not_done")

    def _target(self, undone: Key) -> Key:
        return (undone[0], self.under.get(undone, undone[1]))

    def _undo(self, saga_id: str, message: Outgoing, key: Key, undoes: str) -> None:
        undone = self._target((saga_id, undoes))
        self.stored.setdefault(undone, Stored("not_done"))
        if self.faults.happens("undo_refuse"):
            self.stored[key] = Stored("refused", reason="simulated refusal of an undo")
            return
        unknown = self.faults.happens("started")
        if unknown:
            self.started[key] = message
            if self.faults.random.random() < 0.5:
                return
        if any((effect.saga_id, effect.key) == undone for effect in self.effects):
            self.effects.append(Effect(saga_id, message.attributes["activity"], key[1], undone[1]))
        if not unknown:
            self.stored[key] = Stored("ok", {})

    def _answer(self, message: Outgoing, found: Stored, until: int = 0) -> Answer:
        attributes = message.attributes
        purpose: Purpose = attributes["purpose"]  # type: ignore[assignment]
        own = (message.key, attributes["idempotencykey"])
        return Answer(
            purpose=purpose,
            activity=attributes["activity"],
            round=int(attributes["round"]),
            attempt=int(attributes["attempt"]),
            outcome=found.outcome,
            data=found.data,
            reason=found.reason,
            until=until,
            done_key=self.under.get(own, "") if found.outcome == "ok" else "",
            participant=message.target,
        )
