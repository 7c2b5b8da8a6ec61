"""Trials: what each outcome of a task would lead to, asked of the kernel that would decide it. Nothing is written.

Rules of this file
- A trial uses the state as it is read now, and the installed code. Functions of a definition are pure, so to call them
  once more changes nothing; one that raises makes the trial say that the saga would get stuck.
- A trial is worth TRIALS_MS of this process at most in sum: outcomes beyond are read from the definition.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.api.views import Actor, TaskView
from orchestrator.definition.stored import graph_of
from orchestrator.kernel.api import Turn, advance, undo_plan
from orchestrator.kernel.graph import Graph, Program
from orchestrator.kernel.inputs import TimerDue, Vote
from orchestrator.kernel.records import FoldError
from orchestrator.kernel.state import State
from orchestrator.pages.consequences import Consequence, read, told

TRIALS_MS = 200.0
SOMEBODY = "somebody who may decide"


@dataclass(frozen=True, slots=True)
class Case:
    """A saga as a task's page needs it. `program` None: the code of its version is not installed here."""

    state: State
    graph: Graph | None
    program: Program | None

    @property
    def undo_plan(self) -> list[str]:
        """What a turn back would undo now, first to last."""
        return undo_plan(self.state)


def case_of(state: State, data: Any, program: Program | None) -> Case:
    """`data`: the stored definition."""
    graph = program.graph if program is not None else graph_of(data) if data is not None else None
    return Case(state, graph, program)


def consequences(
    case: Case, task: TaskView, activity: str, actor: Actor, now: int, answer: Mapping[str, Any] | None = None
) -> tuple[Consequence, ...]:
    """One for each outcome, then one for nobody deciding in time. `answer`: a filled-in form, tried for its outcome."""
    if case.graph is None:
        return ()
    over = time.monotonic() + TRIALS_MS / 1000
    found = []
    for outcome in task.outcomes:
        given = dict(answer) if answer and answer.get("outcome") == outcome else {"outcome": outcome}
        turn = _try(case, task, activity, actor, now, given) if time.monotonic() < over else None
        found.append(told(outcome, turn, case.graph) if turn is not None else read(outcome, case.graph, activity))
    expiry = _expire(case, activity) if time.monotonic() < over else None
    found.append(told("", expiry, case.graph) if expiry is not None else read("", case.graph, activity))
    return tuple(found)


def _try(case: Case, task: TaskView, activity: str, actor: Actor, now: int, answer: dict[str, Any]) -> Turn | None:
    """The turn that a vote would be: by who looks, else by somebody who may. None where no vote would count."""
    if case.program is None:
        return None
    for person, roles in _voters(task, actor):
        vote = Vote(
            activity=activity,
            by=person,
            roles=roles,
            answer=answer,
            subject_hash=task.subject_hash,
            received_at=now,
            authentication="trial",
        )
        try:
            turn = advance(case.program, case.state, vote, now)
        except FoldError:
            return None
        if turn.refusal is None and turn.records:
            return turn
    return None


def _voters(task: TaskView, actor: Actor) -> Iterator[tuple[str, tuple[str, ...]]]:
    yield actor.id, actor.roles
    everybody = tuple(entry["role"] for entry in task.to if "role" in entry)
    yield SOMEBODY, everybody
    for entry in task.to:
        if "person" in entry:
            yield entry["person"], everybody


def _expire(case: Case, activity: str) -> Turn | None:
    found = case.state.activities.get(activity)
    if case.program is None or found is None or found.task is None:
        return None
    when = found.task.expires
    try:
        turn = advance(case.program, case.state, TimerDue(activity, found.armed), when + 1)
    except FoldError:
        return None
    return turn if any(record.type == "task.expired" for record in turn.records) else None
