"""Answers: what participants (and child sagas) answer, or do not.

Rules of this file
- Every answer names a word of the flow; which run of it is meant follows from what is in flight, or from `at=`.
- An answer that nothing waits for is an error of the specification, unless it says `answered_late`.
- Types tie a reply to its step: `replied(hold_funds, TransferExecuted(…))` is refused by the type checkers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Literal, Protocol, TypeVar, overload

from orchestrator.definition.steps import Call, Step
from orchestrator.kernel.inputs import Answer, ChildAnswer, Refusal
from orchestrator.kernel.state import Activity
from orchestrator.messages import Command, Done, Reply
from orchestrator.testing.known import At, SpecificationError
from orchestrator.testing.places import Asked, find
from orchestrator.testing.world import Actor, World

R = TypeVar("R", bound=Reply)

SILENCES_MAX = 200  # attempts without an answer, after which `unanswered` says that the step is asked until done

ChildOutcome = Literal["completed", "failed", "refused", "undone", "pivot_passed"]
Purpose = Literal["do", "undo", "fence"]


class Given(Protocol):
    """One input of a specification."""

    def give(self, world: World) -> Refusal | None:
        """Lets it happen. Raises SpecificationError where it cannot; returns why a person's wish was refused."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer to a do, an undo or a fence; of a call, how the child ended."""

    word: Asked
    purpose: Purpose
    outcome: Any
    data: Any = None
    reason: str = ""
    at: At = None
    until: timedelta | None = None
    done_key: str = ""
    late: bool = False
    round: int | None = None
    attempt: int | None = None

    def give(self, world: World) -> Refusal | None:
        """Delivers the answer to the activity that waits for it."""
        wanted = {"do": "waits for an answer", "undo": "is being undone", "fence": "is being settled"}[self.purpose]
        fits: Callable[[Activity], bool] = anything if self.late else self._waits
        actor, key = find(world, self.word, self.at, fits, wanted)
        found = actor.now_state.activities[key]
        if isinstance(self.word, Call):
            world.stub(actor, key)
            outcome = _CHILD_OUTCOMES[self.purpose, self.outcome]
            world.give(actor, ChildAnswer(key, self.round or found.round, outcome, self.data, self.reason))
        else:
            world.give(actor, self._answer(world, key, found))
        return None

    def _waits(self, found: Activity) -> bool:
        if self.purpose == "undo":
            return found.undo_status in ("asked", "backoff")
        if self.purpose == "fence":
            return (found.unsettled and bool(found.fence)) or found.fence == "owed" or found.undo_status == "taken"
        return found.status == "requested" if self.outcome == "error" else found.unsettled

    def _answer(self, world: World, key: str, found: Activity) -> Answer:
        undo = found.undo
        until = world.clock + int(self.until.total_seconds() * 1_000_000) if self.until else 0
        if self.purpose == "undo" or (self.purpose == "fence" and found.undo_status == "taken"):
            purpose = "undo" if self.purpose == "undo" else "fence_undo"
            round_, attempt = (undo.round, undo.attempt) if undo else (1, 1)
        else:
            purpose, round_ = self.purpose, found.round
            attempt = found.attempt if self.purpose == "do" else found.fence_attempt
        return Answer(
            purpose,  # type: ignore[arg-type]  # one of the kernel's four
            key,
            self.round or round_,
            self.attempt or attempt,
            self.outcome,
            self.data,
            self.reason,
            until,
            self.done_key,
        )


_CHILD_OUTCOMES: dict[tuple[str, str], ChildOutcome] = {
    ("do", "ok"): "completed",
    ("do", "refused"): "failed",
    ("fence", "ok"): "pivot_passed",
    ("fence", "not_done"): "undone",
    ("fence", "refused"): "failed",
    ("undo", "ok"): "undone",
    ("undo", "refused"): "pivot_passed",
}


def anything(found: Activity) -> bool:
    return True


@overload
def replied(step: Step[..., Command[Done]], *, at: At = ...) -> Answered: ...


@overload
def replied(step: Step[..., Command[R]], reply: R, *, at: At = ...) -> Answered: ...


@overload
def replied(step: Call[..., Command[R]], reply: R, *, at: At = ...) -> Answered: ...


@overload
def replied(step: Call[..., Any], *, at: At = ...) -> Answered: ...


def replied(step: Any, reply: Reply | None = None, *, at: At = None) -> Answered:
    """The participant did what it was asked; of a call: the child completed, whatever it was doing here."""
    return Answered(step, "do", "ok", (reply or Done()).plain(), at=at)


def refused(step: Step[..., Any] | Call[..., Any], reason: str = "refused", *, at: At = None) -> Answered:
    """A business no, which is definite; of a call: the child failed and is compensated."""
    return Answered(step, "do", "refused", reason=reason, at=at)


def errored(step: Step[..., Any], reason: str = "error", *, at: At = None) -> Answered:
    """This attempt failed and nobody knows what it did: the step is asked again, as its policy says."""
    return Answered(step, "do", "error", reason=reason, at=at)


@overload
def settled_done(step: Step[..., Command[Done]], *, at: At = ..., done_key: str = ...) -> Answered: ...


@overload
def settled_done(step: Step[..., Command[R]], reply: R, *, at: At = ..., done_key: str = ...) -> Answered: ...


@overload
def settled_done(step: Call[..., Any], *, at: At = ...) -> Answered: ...


def settled_done(step: Any, reply: Reply | None = None, *, at: At = None, done_key: str = "") -> Answered:
    """The participant says that it had done it; of a call: the child has passed its pivot and cannot be undone."""
    return Answered(step, "fence", "ok", (reply or Done()).plain(), at=at, done_key=done_key)


def settled_not_done(step: Step[..., Any] | Call[..., Any], reason: str = "", *, at: At = None) -> Answered:
    """The participant had not done it and never will; of a call: the child is undone."""
    return Answered(step, "fence", "not_done", reason=reason, at=at)


def settled_refused(step: Step[..., Any] | Call[..., Any], reason: str = "refused", *, at: At = None) -> Answered:
    """The participant says that it had refused."""
    return Answered(step, "fence", "refused", reason=reason, at=at)


def in_doubt(step: Step[..., Any], *, at: At = None, until: timedelta | None = None) -> Answered:
    """The participant cannot say yet. `until`: when to ask again, from now; without, as the undo policy says."""
    return Answered(step, "fence", "in_doubt", at=at, until=until)


def settling_errored(step: Step[..., Any], reason: str = "error", *, at: At = None) -> Answered:
    """The participant could not say what happened: asked again, as the undo policy says."""
    return Answered(step, "fence", "error", reason=reason, at=at)


def never_known(step: Step[..., Any], reason: str = "", *, at: At = None) -> Answered:
    """The participant will never be able to say."""
    return Answered(step, "fence", "never", reason=reason, at=at)


def undone(step: Step[..., Any] | Call[..., Any], *, at: At = None) -> Answered:
    """The undo was done. Needed only with `given(…, answer_undos=False)`."""
    return Answered(step, "undo", "ok", Done().plain(), at=at)


def undo_refused(step: Step[..., Any] | Call[..., Any], reason: str = "refused", *, at: At = None) -> Answered:
    """The undo was refused. Needs `given(…, answer_undos=False)`."""
    return Answered(step, "undo", "refused", reason=reason, at=at)


def undo_errored(step: Step[..., Any], reason: str = "error", *, at: At = None) -> Answered:
    """This attempt of the undo failed. Needs `given(…, answer_undos=False)`."""
    return Answered(step, "undo", "error", reason=reason, at=at)


def answered_late(answer: Answered, *, round: int | None = None, attempt: int | None = None) -> Answered:
    """The same answer although nothing waits for it, perhaps to an earlier round or attempt."""
    return replace(answer, late=True, round=round, attempt=attempt)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Nobody answers; time passes until the policy gives up."""

    word: Asked
    at: At

    def give(self, world: World) -> Refusal | None:
        """Fires what comes due until this step's attempts (or fences, or undos) are over."""
        actor, key = find(world, self.word, self.at, _is_waiting, "waits for an answer")
        what = _waiting_for(actor, key)
        for _ in range(SILENCES_MAX):
            if key not in actor.timers:
                raise SpecificationError(f"{key} has no time limit: nothing follows from silence")
            world.pass_time(actor.timers[key].due)
            if _waiting_for(actor, key) != what:
                return None
        raise SpecificationError(f"{key} is asked until it is done: say elapsed(…) for a stretch of silence")


def unanswered(step: Step[..., Any] | Call[..., Any], *, at: At = None) -> Unanswered:
    """Nobody answers any attempt; while it is being settled: no fence; while it is undone: no undo."""
    return Unanswered(step, at)


def _is_waiting(found: Activity) -> bool:
    return (found.unsettled and found.fence != "stuck") or found.undo_status in ("asked", "backoff", "taken")


def _waiting_for(actor: Actor, key: str) -> str:
    """What this activity waits for: an answer, a fence's, an undo's, or nothing."""
    found = actor.now_state.activities[key]
    if found.undo_status in ("asked", "backoff", "taken"):
        return "undo"
    if found.unsettled and found.fence != "stuck":
        return "fence" if found.fence else "do" if found.status in ("requested", "backoff") else ""
    return ""
