"""What customers may see of their sagas: the words and fields that a definition exposes, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from orchestrator.kernel.graph import node_path
from orchestrator.messages.customers import CustomerView
from projections.answers import Progress, ProgressStep
from projections.contract import FOREVER
from projections.feed import SQL as FEED
from projections.journeys import SQL
from projections.reading import Asked, Reader, ended, instant

PASSED_ROWS_MAX = 1_000
WORDS = {"underway": "In progress", "completed": "Done", "returned": "Not carried out"}


class CustomerQueries:
    """What customers may see."""

    def __init__(self, reader: Reader, views: Mapping[str, CustomerView]) -> None:
        self._reader = reader
        self._views = views

    async def progress(self, tenant: str, business_key: str, customer: str | None = None) -> Progress | None:
        """A customer's saga in plain words; of several under one key the newest.

        `customer`: it must be theirs. None: no such saga, not theirs, or nothing of it is exposed: these look alike.
        """

        async def question(asked: Asked) -> Progress | None:
            key = business_key.replace("\0", "�")
            rows = await asked.fetch(SQL["by_key"], tenant, key, customer, sorted(self._views))
            view = self._views.get(rows[0]["name"]) if rows else None
            if view is None:
                return None
            row = rows[0]
            passed = await asked.fetch(SQL["passed"], tenant, row["saga_id"], PASSED_ROWS_MAX)
            started = await asked.connection.fetch(FEED["first_records"], [row["saga_id"]])
            start = orjson.loads(started[0]["body"])["data"].get("data", {}) if started else {}
            return _progress(view, row, passed, start, asked)

        return await self._reader.ask(tenant, "journeys", question)


def _progress(view: CustomerView, row: Any, passed: list[Any], start: Mapping[str, Any], asked: Asked) -> Progress:
    return Progress(
        business_key=row["business_key"],
        title=view.title,
        state=_state(view, row),
        facts={label: start[name] for name, label in view.fields.items() if name in start},
        steps=tuple(_steps(view, row, passed)),
        started_at=instant(row["started_at"]),
        changed_at=instant(row["changed_at"]),
        ended_at=ended(row["ended_at"]),
        complete=asked.complete,
    )


def _state(view: CustomerView, row: Any) -> str:
    if row["ended_at"] == FOREVER:
        name = "underway"
    else:
        name = "completed" if row["phase"] == "completed" else "returned"
        if row["outcome"] in view.endings:
            return view.endings[row["outcome"]]
    return view.endings.get(name, WORDS[name])


def _steps(view: CustomerView, row: Any, passed: list[Any]) -> list[ProgressStep]:
    done, undone = {}, set()
    for span in passed:
        name = _name(span["node"])
        if span["kind"] == "undo":
            undone.add(name)
        elif span["outcome"] not in ("withdrawn", "expired", "refused"):
            done[name] = span["closed_at"]
    now = {_name(node_path(stay["activity"])): stay["since"] for stay in orjson.loads(row["places"])}
    is_over = row["ended_at"] != FOREVER
    steps = []
    for name, text in view.steps.items():
        if name in now and not is_over and row["phase"] == "forward":
            steps.append(ProgressStep(text, "now", instant(now[name])))
        elif name in done:
            steps.append(ProgressStep(text, "undone" if name in undone else "done", instant(done[name])))
        elif not is_over and row["phase"] == "forward":
            steps.append(ProgressStep(text, "later", None))
    return steps


def _name(node: str) -> str:
    """A node's own name, without the path that leads to it."""
    return node.rpartition("/")[2]
