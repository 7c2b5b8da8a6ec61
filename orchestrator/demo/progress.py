"""What a demonstration shows while it runs, and what it says at the end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from rich.live import Live
from rich.table import Table
from rich.text import Text

from orchestrator.cli.client import DEFAULT_URL
from orchestrator.cli.output import Output, visible
from orchestrator.demo.player import Played, Run
from orchestrator.demo.samples import Visitor

ROWS_MAX = 50  # more than that are counted, not listed
LINES_MAX = 10  # progress lines where there is no terminal


@contextlib.contextmanager
def shown(run: Run, out: Output) -> Iterator[None]:
    """Live progress on stderr: a table on a terminal, else a line for each tenth."""
    if out.stderr.is_terminal:
        with Live(console=out.stderr, refresh_per_second=8, transient=True, get_renderable=lambda: table(run)):
            yield
        return
    said = 0

    def changed() -> None:
        nonlocal said
        over = sum(item.over for item in run.played)
        tenth = over * LINES_MAX // max(1, len(run.played))
        if tenth > said:
            said = tenth
            out.say(f"{over} of {len(run.played)} sagas over")

    run.changed = changed
    yield
    run.changed = lambda: None


def table(run: Run) -> Table:
    """The sagas with what they do now."""
    made = Table(box=None, pad_edge=False)
    for name in ("", "key", "what", "state"):
        made.add_column(name)
    for item in run.played[:ROWS_MAX]:
        made.add_row(Text(mark(item)), Text(visible(item.key)), Text(visible(item.sample.title)), Text(_state(item)))
    if len(run.played) > ROWS_MAX:
        over = sum(item.over for item in run.played)
        made.add_row("", "", Text(f"{len(run.played) - ROWS_MAX} more"), Text(f"{over} of {len(run.played)} over"))
    return made


def report(run: Run, api: str, seconds: float, out: Output) -> None:
    """What happened to each saga, and where to look; with `--json` one object."""
    wrong = [item for item in run.played if item.wrong or not item.over]
    out.object(
        {
            "ok": run.ok,
            "sagas": run.counts(),
            "api": api,
            "seconds": round(seconds, 2),
            "wrong": [{"key": item.key, "sample": item.sample.name, "why": item.wrong} for item in wrong],
        }
    )
    if out.as_json:
        return
    rows = [
        (mark(item), item.key, item.sample.title, _state(item))
        for item in run.played
        if len(run.played) <= ROWS_MAX or item in wrong
    ]
    out.table(("", "key", "what", "became"), rows)
    for area, counts in run.counts().items():
        out.line(f"{area}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count))
    if wrong:
        out.line(f"NOT as expected: {len(wrong)} of {len(run.played)}", "red")
    prefix = "" if api == DEFAULT_URL else f"ORCHESTRATOR_API_URL={api} "
    out.line(f"look: {prefix}orchestrator saga timeline {run.played[0].key if run.played else 'ID'}")
    out.line(f"      {prefix}orchestrator saga list")
    out.line(f"API   {api}/v1/sagas (header X-Actor: your name)")


def introduce(people: Sequence[Visitor], api: str, out: Output) -> None:
    """Who a visitor may be, what each may do, and where."""
    if out.as_json or not people:
        return
    rows = [(person.id, person.name, ", ".join(person.roles), person.about) for person in people]
    out.table(("sign in as", "", "groups", "may"), rows)
    out.line(f"work there: {api}/office")


def mark(item: Played) -> str:
    """One sign: ended as expected, not so, or still going."""
    if item.over:
        return "✗" if item.wrong else "✓"
    return "↺" if item.phase == "compensating" else "●" if item.phase else "·"


def _state(item: Played) -> str:
    return visible(f"{item.state}   NOT AS EXPECTED: {item.wrong}" if item.wrong else item.state)
