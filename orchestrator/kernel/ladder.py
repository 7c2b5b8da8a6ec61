"""The ladder: what time does to an open task. Levels of escalation, reminders, and the clock that a level sets anew.

Rules of this file
- Instants are worked out when the task opens, and recorded: a calendar that changes later moves no task.
- Each level and each reminder happens once, in order, also when several are overdue after downtime; under `last` those
  that are overdue together happen as one record that names what was missed.
- A level that resets the service level counts from the moment it happened. One that was due before the end of the time
  keeps the task open also when its timer comes late: downtime is not lateness.
"""

from __future__ import annotations

from typing import Any

from orchestrator.kernel.graph import Limit, TaskNode
from orchestrator.kernel.state import TaskState
from orchestrator.kernel.turn import StuckError, Turn

Level = dict[str, Any]


def levels_of(turn: Turn, activity: str, node: TaskNode) -> list[Level]:
    """The levels of a task that opens now."""
    levels: list[Level] = []
    for number, level in enumerate(node.escalate):
        at = turn.due(activity, Limit(level.after_ms, calendar=level.calendar), f"escalate{number}")
        assert at is not None
        levels.append({"at": at, "to": level.to, **({"reset": True} if level.reset_sla else {})})
    return levels


def reminders_of(turn: Turn, activity: str, node: TaskNode) -> list[int]:
    """The reminders of a task that opens now, in the order of time."""
    limits = [Limit(reminder.after_ms, calendar=reminder.calendar) for reminder in node.remind]
    found = [turn.due(activity, limit, f"remind{number}") for number, limit in enumerate(limits)]
    return sorted(at for at in found if at is not None)


def climb(turn: Turn, activity: str) -> None:
    """Every level and reminder that is due, in order. What would come after the end of the time never comes."""
    while True:
        found = turn.state.activities[activity]
        task = found.task
        if task is None or found.status != "open":
            return
        level, reminder = _next(task, turn.now)
        if level is not None and (reminder is None or level <= reminder):
            _escalate(turn, activity, task)
        elif reminder is not None:
            _remind(turn, activity, task)
        else:
            return


def extended(turn: Turn, activity: str, received_at: int) -> bool:
    """A level that was due in time sets the clock anew, whether or not its timer has fired. True where time is left."""
    task = turn.state.activities[activity].task
    if task is None or not any(level.get("reset") for level in task.levels):
        return False
    climb(turn, activity)
    task = turn.state.activities[activity].task
    return task is not None and received_at < task.expires


def _next(task: TaskState, now: int) -> tuple[int | None, int | None]:
    """When the next level and the next reminder were due, None for one that is not due yet."""
    level = task.levels[0]["at"] if task.levels else task.expires
    reminder = task.reminders[0] if task.reminders else task.expires
    return (
        level if level <= now and level < task.expires else None,
        reminder if reminder <= now and reminder < task.expires else None,
    )


def _escalate(turn: Turn, activity: str, task: TaskState) -> None:
    due_now = _overdue(task, turn.now) if task.catch_up == "last" else task.levels[:1]
    level, rest = due_now[-1], task.levels[len(due_now) :]
    facts: dict[str, Any] = {}
    expires = task.expires
    if any(one.get("reset") for one in due_now):
        expires = facts["expires"] = _anew(turn, activity, task)
    if len(due_now) > 1:
        facts["missed"] = [one["at"] for one in due_now[:-1]]
    due = min([expires, *(later["at"] for later in rest), *task.reminders])
    turn.emit(
        "task.escalated", activity, level=task.level + len(due_now), to=level["to"], due=due, was_due=level["at"],
        at=turn.now, **facts,
    )  # fmt: skip


def _overdue(task: TaskState, now: int) -> list[Level]:
    """The levels that are due together: those before the end of the time, and what follows one that moves the end."""
    found: list[Level] = []
    for level in task.levels:
        moved = any(one.get("reset") for one in found)
        if level["at"] > now or (level["at"] >= task.expires and not moved):
            break
        found.append(level)
    return found


def _anew(turn: Turn, activity: str, task: TaskState) -> int:
    """The end of a time that starts now. Where its function raises, as much time as there was before."""
    node = turn.node(activity)
    assert isinstance(node, TaskNode)
    try:
        return turn.due(activity, node.within) or turn.now
    except StuckError:
        return turn.now + task.expires - task.opened_at


def _remind(turn: Turn, activity: str, task: TaskState) -> None:
    was_due, missed = task.reminders[0], 0
    if task.catch_up == "last":
        missed = sum(at <= turn.now and at < task.expires for at in task.reminders) - 1
        was_due = task.reminders[missed]
    rest = task.reminders[1 + missed :]
    due = min([task.expires, *(level["at"] for level in task.levels), *rest])
    facts = {"missed": missed} if missed else {}
    number = len(task.reminded) + 1
    turn.emit("task.reminded", activity, number=number, due=due, was_due=was_due, at=turn.now, **facts)
