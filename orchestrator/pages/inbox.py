"""The inbox: which tasks stand under which tab, filtered and in which order. Facts only; the page is inbox_pages.py.

Rules of this file
- Lists come from the store's keyset pages, due first. A filter looks through LOOKED_AT_MAX tasks of a tab at most and
  says where it stopped, so that no filter is ever slow and none pretends to have seen everything.
- "For me": asked of me by name, or delegated to me. "My groups": whatever else I may decide. "Claimed": of both, what I
  hold. "Waiting for others": what I asked for, or have voted on. Who may not see a task does not find it here.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson

from orchestrator.api.engine import Engine
from orchestrator.api.problems import ProblemError
from orchestrator.api.views import Actor, RefusedError, TaskView, task_id_of
from orchestrator.pages.formats import decimal_of
from orchestrator.pages.keeping import COUNTED_MAX, Keeping
from orchestrator.pages.subject import Amount, amount_of, facts_of, party_of, title

PAGE_ROWS = 50
BATCH_ROWS = 100
LOOKED_AT_MAX = 4_000
TEXT_MAX = 200

TABS = ("me", "claimed", "groups", "others", "all")
SUPERVISORS = frozenset({"operator", "auditor", "admin"})
DUE = ("", "overdue", "today", "week")


@dataclass(frozen=True, slots=True)
class Filter:
    """What is looked for; "" does not count. `least`, `most`: amounts as typed. `cursor`: where a page begins."""

    tab: str = "me"
    kind: str = ""
    due: str = ""
    text: str = ""
    currency: str = ""
    least: str = ""
    most: str = ""
    cursor: str = ""

    @property
    def narrows(self) -> bool:
        """True where some tasks of the tab may be left out."""
        return any((self.kind, self.due, self.text, self.currency, self.least, self.most))

    @property
    def wrong(self) -> Mapping[str, str]:
        """Amounts that cannot be read without doubt, by field: nothing is looked for then, rather than too much."""
        text = "write it like 1250.00: this can be read in two ways, or not at all"
        given = {"least": self.least, "most": self.most}
        return {name: text for name, typed in given.items() if typed.strip() and amount_typed(typed) is None}

    def query(self, **changes: str) -> dict[str, str]:
        """As parameters of a URL, with changes."""
        values = {
            "tab": self.tab, "kind": self.kind, "due": self.due, "text": self.text, "currency": self.currency,
            "least": self.least, "most": self.most, "cursor": self.cursor, **changes,
        }  # fmt: skip
        return {name: value for name, value in values.items() if value}


@dataclass(frozen=True, slots=True)
class Row:
    """One task of a list. `gone`: why it does not belong there any more; `twin`: the key of one that looks like it."""

    task: TaskView
    headline: str
    about: str
    amount: Amount | None
    sla: str
    gone: str = ""
    twin: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of rows. `next`: cursor of the following one. `stopped`: the filter looked at so many and then stopped."""

    rows: Sequence[Row]
    next: str = ""
    stopped: int = 0


class Inbox:
    """The lists of one process."""

    def __init__(self, engine: Engine, keeping: Keeping) -> None:
        self._engine = engine
        self._keeping = keeping

    async def counts(self, actor: Actor) -> Mapping[str, str]:
        """How much there is under the first tabs: "4", or "99+"."""
        mine = await self._keeping.count_for(actor.tenant, actor.id, [f"person:{actor.id}"])
        groups = await self._keeping.count_for(actor.tenant, actor.id, [f"role:{role}" for role in actor.roles])
        return {"me": _counted(mine), "groups": _counted(groups)}

    async def listing(self, actor: Actor, wanted: Filter, now: datetime) -> Listing:
        """A page of a tab. Raises ProblemError `bad_cursor`."""
        rows: list[Row] = []
        looked = 0
        if wanted.wrong:
            return Listing(())
        async for tasks, following in self._batches(actor, wanted):
            looked += len(tasks)
            rows += [row_of(task) for task in tasks if _fits(task, wanted, actor, now)]
            if len(rows) >= PAGE_ROWS or looked >= LOOKED_AT_MAX:
                return Listing(_with_twins(rows), following, stopped=looked if len(rows) < PAGE_ROWS else 0)
        return Listing(_with_twins(rows))

    async def again(self, actor: Actor, shown: Sequence[str], wanted: Filter, now: datetime) -> tuple[Listing, int]:
        """The same rows in the same order with what is true now, and how many there are that are not among them."""
        fresh = await self.listing(actor, wanted, now)
        by_id = {row.task.id: row for row in fresh.rows}
        rows = []
        for task_id in shown[:PAGE_ROWS]:
            row = by_id.get(task_id)
            if row is None:
                row = await self._gone(actor, task_id)
            if row is not None:
                rows.append(row)
        new = sum(task_id not in shown for task_id in by_id)
        return replace(fresh, rows=rows), new

    async def _gone(self, actor: Actor, task_id: str) -> Row | None:
        task = await self._found(actor, task_id)
        if task is None:
            return None
        return replace(row_of(task), gone=gone_words(task))

    async def _found(self, actor: Actor, task_id: str) -> TaskView | None:
        try:
            return await self._engine.desk.view(task_id, actor)
        except RefusedError:
            return None

    async def _batches(self, actor: Actor, wanted: Filter) -> AsyncIterator[tuple[Sequence[TaskView], str]]:
        """The tasks of a tab, some at a time, each with the cursor that goes on behind them."""
        cursor = wanted.cursor
        if wanted.tab == "others":
            after: tuple[int, str, str] | None = _read_cursor(cursor)
            while after is not None:
                tasks, after = await self._others(actor, after)
                yield tasks, _write_cursor(after) if after is not None else ""
            return
        asking = replace(actor, roles=()) if wanted.tab == "me" else actor
        limit = BATCH_ROWS if wanted.narrows else PAGE_ROWS
        while True:
            mine = wanted.tab != "all"
            page = await self._engine.task_page(asking, state="open", mine=mine, limit=limit, cursor=cursor)
            yield page.items, page.next
            if not page.next:
                return
            cursor = page.next

    async def _others(
        self, actor: Actor, after: tuple[int, str, str]
    ) -> tuple[Sequence[TaskView], tuple[int, str, str] | None]:
        found = await self._keeping.waiting_for_others(actor.tenant, actor.id, after, PAGE_ROWS)
        tasks = [await self._found(actor, task_id_of(saga_id, activity)) for saga_id, activity, _ in found]
        saga_id, activity, due = found[-1] if found else ("", "", 0)
        is_last = len(found) < PAGE_ROWS
        return [task for task in tasks if task and task.state == "open"], None if is_last else (due, saga_id, activity)


def _write_cursor(place: tuple[int, str, str]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[int, str, str]:
    """Raises ProblemError `bad_cursor`."""
    if not text:
        return -1, "", ""
    try:
        due, saga_id, activity = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (ValueError, TypeError) as error:
        raise ProblemError("bad_cursor", "This cursor is not one of this list: leave it out.") from error
    fits = type(due) is int and abs(due) < 2**62 and isinstance(saga_id, str) and isinstance(activity, str)
    if not fits or "\0" in saga_id + activity:
        raise ProblemError("bad_cursor", "This cursor is not one of this list: leave it out.")
    return due, saga_id, activity


def row_of(task: TaskView) -> Row:
    """A task as a row."""
    return Row(
        task=task,
        headline=title(task.activity)[:1].upper() + title(task.activity)[1:],
        about=party_of(task.shown),
        amount=amount_of(task.shown, task.amount),
        sla=task.sla,
    )


def gone_words(task: TaskView) -> str:
    """What happened to a task that left the list."""
    if task.state == "decided":
        decision = task.decision if isinstance(task.decision, Mapping) else {}
        answer, by = decision.get("answer") or {}, decision.get("by") or {}
        return f"{answer.get('outcome', 'decided')} by {by.get('id', 'somebody')}"
    return {"expired": "expired", "withdrawn": "withdrawn"}.get(task.state, "not for you any more")


def _counted(count: int) -> str:
    return f"{COUNTED_MAX - 1}+" if count >= COUNTED_MAX else str(count)


def _fits(task: TaskView, wanted: Filter, actor: Actor, now: datetime) -> bool:
    if wanted.tab == "groups" and any(entry.get("person") == actor.id for entry in task.to):
        return False
    if wanted.tab == "claimed" and task.claimed_by != actor.id:
        return False
    if wanted.kind and task.saga_name != wanted.kind:
        return False
    return _is_due(task.due, wanted.due, now) and _has_text(task, wanted.text) and _has_amount(task, wanted)


def _is_due(due: datetime | None, wanted: str, now: datetime) -> bool:
    if not wanted or wanted not in DUE:
        return True
    if due is None:
        return False
    limits = {"overdue": timedelta(0), "today": timedelta(days=1), "week": timedelta(days=7)}
    return due <= now + limits[wanted]


def _has_text(task: TaskView, text: str) -> bool:
    if not text:
        return True
    place = [task.business_key, task.saga_id, task.saga_name, title(task.activity)]
    place += [str(fact.value) for fact in facts_of(task.shown)]
    return text[:TEXT_MAX].casefold() in "\n".join(place).casefold()


def _has_amount(task: TaskView, wanted: Filter) -> bool:
    if not (wanted.currency or wanted.least or wanted.most):
        return True
    amount = amount_of(task.shown, task.amount)
    value = decimal_of(amount.value) if amount is not None else None
    if amount is None or value is None or (wanted.currency and amount.currency != wanted.currency):
        return False
    least, most = amount_typed(wanted.least), amount_typed(wanted.most)
    return (least is None or value >= least) and (most is None or value <= most)


def amount_typed(text: str) -> Decimal | None:
    """A number as people type it: spaces and grouping commas are allowed, a comma as decimal sign is not guessed."""
    plain = text.replace(" ", "").replace("\u00a0", "")
    has_groups = "." in plain or plain.count(",") != 1
    return decimal_of(plain.replace(",", "") if has_groups else plain)


def _with_twins(rows: Sequence[Row]) -> Sequence[Row]:
    """Marks rows that ask for the same amount to the same party within a day: perhaps one request made twice."""
    first: dict[tuple[Any, ...], Row] = {}
    marked = []
    for row in sorted(rows, key=lambda each: each.task.opened_at):
        key = (row.task.saga_name, row.task.activity, row.about, row.amount)
        earlier = first.setdefault(key, row)
        near = row.task.opened_at - earlier.task.opened_at < timedelta(days=1)
        is_twin = row.about and row.amount is not None and earlier.task.saga_id != row.task.saga_id and near
        marked.append(replace(row, twin=earlier.task.business_key) if is_twin else row)
    by_id = {row.task.id: row for row in marked}
    return [by_id[row.task.id] for row in rows]
