"""What must hold after every turn of every saga, whatever it does.

- V12: folding the stored form of the records gives the state that was used live, in contents and in order.
- V13: deciding again on the same state and input gives the same records and the same effects.
- Fork: the state that the turn started from is as it was (a failed commit must not change a cached state).
- Effects: timers, subscriptions and tasks kept from effects alone are those that the state speaks of.
- Orphan rule: a live saga waits for something that exists.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, cast

from orchestrator.kernel.api import Turn, fold
from orchestrator.kernel.records import Record
from orchestrator.kernel.state import State
from orchestrator.messages import plain

ORDERED = ("activities", "tokens", "scopes", "undoing", "stuck")  # what moves first depends on these orders
REFOLD_RECORDS_MAX = 400  # above this only every tenth turn is folded anew, so that long streams stay quick


class KernelError(AssertionError):
    """A rule that holds for every saga was broken. Unless the text names your functions, the orchestrator has a bug."""


def stored(record: Record) -> Record:
    """The record as it comes back from the store."""
    return Record(record.type, record.activity, plain(record.data))


def check_turn(earlier: Sequence[Record], turn: Turn, again: Turn, before: State | None) -> None:
    """V12, V13 and the fork. Raises KernelError with what differs."""
    if turn.records != again.records or turn.effects != again.effects or turn.refusal != again.refusal:
        raise KernelError(
            "V13: deciding again gave something else. A function of this saga gives another value when it is called "
            "again (a clock, chance, a counter), or the kernel has a bug\n"
            f"first\n{_lines(turn.records)}\nagain\n{_lines(again.records)}"
        )
    if len(earlier) > REFOLD_RECORDS_MAX and len(earlier) % 10:
        return
    records = [stored(record) for record in (*earlier, *turn.records)]
    if before is not None:
        _same("fork: the turn changed the state that it started from", fold(records[: len(earlier)]), before)
    if turn.records:
        _same("V12: the folded state differs from the live one", fold(records), turn.state)


def _same(what: str, folded: State, live: State) -> None:
    ours, theirs = folded.summary(), live.summary()
    for name, value in ours.items():
        if value != theirs[name]:
            raise KernelError(f"{what}: {name}\nfolded {_difference(value, theirs[name])}")
        if name in ORDERED and list(value) != list(theirs[name]):
            raise KernelError(f"{what}: order of {name}\nfolded {list(value)}\nlive   {list(theirs[name])}")


def _difference(folded: Any, live: Any) -> str:
    if isinstance(folded, dict) and isinstance(live, dict):
        folded, live = cast("dict[str, Any]", folded), cast("dict[str, Any]", live)
        keys = [key for key in {**folded, **live} if folded.get(key) != live.get(key)]
        return "\n".join(f"{key}: {folded.get(key)}\nlive   {key}: {live.get(key)}" for key in keys)
    return f"{folded}\nlive   {live}"


def _lines(records: Sequence[Record]) -> str:
    return "\n".join(f"    {record.type} {record.activity} {record.data}" for record in records)


def check_tables(
    state: State, timers: dict[str, tuple[int, int]], waits: Collection[tuple[str, str, str]], tasks: Collection[str]
) -> None:
    """The rows that effects have led to are those that the state speaks of. Raises KernelError."""
    due = {key: (found.due, found.armed) for key, found in state.activities.items() if found.due}
    if state.deadline:
        due[""] = (state.deadline, state.deadline_armed)
    if due != timers:
        raise KernelError(f"effects: timers are\n    {timers}\nthe state speaks of\n    {due}")
    wanted = sorted((key, w["type"], w["key"]) for key, found in state.activities.items() for w in found.wants)
    if wanted != sorted(waits):
        raise KernelError(f"effects: subscriptions are\n    {sorted(waits)}\nthe state speaks of\n    {wanted}")
    opened = {key for key, found in state.activities.items() if found.task is not None and found.status == "open"}
    if opened != set(tasks):
        raise KernelError(f"effects: open tasks are {sorted(tasks)}, the state speaks of {sorted(opened)}")


def check_alive(state: State, timers: Collection[str], waits: Collection[Any], tasks: Collection[str]) -> None:
    """The orphan rule (29), once nothing is under way between sagas. Raises KernelError for an orphan."""
    if state.ended or state.phase == "new" or timers or waits or tasks or state.stuck:
        return
    if any(found.kind == "call" and found.unsettled for found in state.activities.values()):
        return
    if any(found.undo_status in ("asked", "handed") for found in state.activities.values()):
        return
    raise KernelError(
        f"orphan: saga {state.name} is in phase {state.phase} and waits for nothing that exists; tokens "
        f"{list(state.tokens)}, scopes {state.scopes}, plan {state.plan}"
    )
