"""Several turns of one saga in one batch, as one set of rows to write.

Rules of this file
- What one turn opened and a later one closed must not come back: rows are folded by activity, in the order of turns, so
  each activity is either set or cleared, never both.
- The usual case, one turn, costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.kernel.effects import Effects, Subscription, TaskRow, Timer


def merged(turns: Sequence[Effects]) -> Effects:
    """The effects of consecutive turns of one saga as those of one turn."""
    if len(turns) == 1:
        return turns[0]
    timers: dict[str, Timer | None] = {}
    waits: dict[str, list[Subscription]] = {}
    closed_waits: dict[str, None] = {}
    tasks: dict[str, TaskRow | str] = {}
    result = Effects()
    for turn in turns:
        timers.update(dict.fromkeys(turn.timers_cleared))
        timers.update((timer.activity, timer) for timer in turn.timers_set)
        for activity in turn.waits_closed:
            waits.pop(activity, None)
            closed_waits[activity] = None
        for opened in turn.waits_opened:
            waits.setdefault(opened.activity, []).append(opened)
        tasks.update(turn.tasks_closed)
        tasks.update((task.activity, task) for task in turn.tasks_open)
        result.outbox.extend(turn.outbox)
        result.consumed.extend(turn.consumed)
    result.timers_set.extend(timer for timer in timers.values() if timer is not None)
    result.timers_cleared.extend(activity for activity, timer in timers.items() if timer is None)
    result.waits_opened.extend(opened for group in waits.values() for opened in group)
    result.waits_closed.extend(closed_waits)
    result.tasks_open.extend(task for task in tasks.values() if isinstance(task, TaskRow))
    result.tasks_closed.extend((activity, how) for activity, how in tasks.items() if isinstance(how, str))
    return Effects(
        outbox=result.outbox,
        timers_set=result.timers_set,
        timers_cleared=result.timers_cleared,
        waits_opened=result.waits_opened,
        waits_closed=result.waits_closed,
        tasks_open=result.tasks_open,
        tasks_closed=result.tasks_closed,
        consumed=result.consumed,
        # A turn without records leaves a due resume as it was; one with records says anew whether more is to be done.
        resume=turns[-1].resume,
    )
