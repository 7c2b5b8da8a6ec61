"""The report of a pack: one page that people read, print and keep, with nothing in it that has to be fetched.

Rules of this file
- It tells what the records say, never more; every line names its record. What it was made of stands beside it.
- No clock, no scripts, no network, no reader's settings: the zone is the pack's, times are local and UTC.
- Whatever comes from outside is escaped, with odd characters marked, as on the pages where people decide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from orchestrator.api.times import instant
from orchestrator.definition.stored import graph_of
from orchestrator.evidence.pack.decisions import matches
from orchestrator.evidence.pack.layout import folder_of, record_name
from orchestrator.evidence.pack.material import Material, Strand, relatives_of
from orchestrator.evidence.pack.personal import Say, readable, readable_views
from orchestrator.evidence.pack.story import lines, payments, sentence, undos
from orchestrator.pages.drawing.history import History
from orchestrator.pages.drawing.spans import span
from orchestrator.pages.drawing.standing import marks
from orchestrator.pages.drawing.svg import draw
from orchestrator.pages.formats import Reader
from orchestrator.pages.odd_text import Html, marked
from orchestrator.pages.subject import Fact, facts_of, title

LINES_MAX = 5_000  # of the story; a longer one is told up to there, and says so
_PHASES = {
    "completed": ("good", "completed"), "compensated": ("warn", "ended after undoing"),
    "tombstoned": ("idle", "undone before it started"), "forward": ("info", "under way"),
    "compensating": ("warn", "turning back"), "on_failed": ("warn", "ending after undoing"),
}  # fmt: skip
_OUTCOMES = {"decided": "idle", "expired": "bad", "withdrawn": "idle", "open": "info"}


@dataclass(frozen=True, slots=True)
class Told:
    """One saga made readable: what its report, its decisions and its picture are made from."""

    history: History
    found: Mapping[str, Any]
    picture: Html
    marks: Sequence[Any]

    @property
    def end(self) -> datetime:
        """The last record's time: the present of everything that is told."""
        return self.history.records[-1].recorded_at


def tell(strand: Strand, found: Mapping[str, Any], say: Say) -> Told:
    """Reads a saga. `found`: its decisions."""
    history = History.of(readable_views(strand.views, say))
    graph = graph_of(strand.definition.data) if strand.definition is not None and strand.definition.data else None
    if graph is None:
        return Told(history, found, Html(), ())
    standing = marks(graph, history, history.records[-1].recorded_at)
    return Told(history, found, draw(graph, standing), tuple(standing.values()))


def picture(told: Told) -> str:
    """The definition as a picture of its own, with the way that the saga went."""
    style = f"<style>{style_of('tokens.css')}{style_of('graph.css')}</style>"
    base = str(told.picture).replace('href="#', f'href="{"report.html"}#')
    head, sign, rest = base.partition("</title>")
    return head.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + sign + style + rest + "\n"


def report(material: Material, strand: Strand, told: Told, say: Say) -> str:
    """The page of one saga of the pack."""
    reader = Reader(zone=material.zone, now=told.end)
    story = lines(told.history.records)
    state = told.history.state
    first, last = strand.records[0], strand.records[-1]
    template = _templates().get_template("report.html")
    inner = Clock(reader)
    return str(
        template.render(
            strand=strand, material=material, told=told, state=state, fmt=reader, clock=inner, say=say,
            style=Html("".join(map(style_of, ("tokens.css", "graph.css", "report.css")))),
            pill=_PHASES.get(state.phase, ("idle", state.phase)),
            sentences=[say(text) for text in _summary(strand, told, reader)],
            lines=story[:LINES_MAX], lines_left=max(0, len(story) - LINES_MAX),
            tasks=told.found["tasks"], operators=told.found["operators"], payments=payments(told.history),
            undos=undos(told.history), matches=matches(told.found), first=first, last=last,
            started=instant(first.recorded_at), ended=told.end, relatives=relatives_of(strand),
            included={each.saga_id for each in (material.strand, *material.relatives)},
            is_main=strand is material.strand,
            top="" if strand is material.strand else "../../",
            folder=folder_of, file_of=record_name, span=span,
            title=title, sentence=sentence, shown=_shown(say), outcomes=_OUTCOMES,
        )
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Clock:
    """Instants as the report writes them: local, and UTC beside it."""

    reader: Reader

    @property
    def is_utc(self) -> bool:
        """Local time is UTC: it is written once."""
        return self.reader.zone == "UTC"

    def local(self, at: datetime | str) -> str:
        """2026-11-21 15:11:07.042 IST"""
        there = self.reader.local(_instant(at))
        return f"{there:%Y-%m-%d %H:%M:%S}.{there.microsecond // 1000:03d} {self.reader.zone_name(_instant(at))}"

    def utc(self, at: datetime | str) -> str:
        """09:41:07.042 UTC, with its day where that is another one."""
        there, here = _instant(at), self.reader.local(_instant(at))
        day = "" if there.date() == here.date() else f"{there:%Y-%m-%d} "
        return f"{day}{there:%H:%M:%S}.{there.microsecond // 1000:03d} UTC"

    def machine(self, at: datetime | str) -> str:
        """For <time>."""
        return _instant(at).isoformat()


def _instant(at: datetime | str) -> datetime:
    return datetime.fromisoformat(at) if isinstance(at, str) else at


def _shown(say: Say) -> Any:
    def shown(value: Any) -> tuple[Fact, ...]:
        """What a person saw, as labelled facts."""
        return facts_of(readable(value, say))

    return shown


def _summary(strand: Strand, told: Told, reader: Reader) -> list[str]:
    """What happened, in a few sentences."""
    state = told.history.state
    took = span(told.end - told.history.records[0].recorded_at)
    is_plain = state.outcome in ("", "completed", "failed", "undone", state.phase)
    ending = "" if is_plain else f" as {state.outcome.replace('_', ' ')}"
    words = _PHASES.get(state.phase, ("", state.phase))[1]
    told_so_far = "it took" if state.ended else "so far it has taken"
    name = f"{sentence(title(strand.name))} {strand.business_key}"
    said = [f"{name}{'' if state.ended else ' is'} {words}{ending}; {told_so_far} {took}."]
    for task in told.found["tasks"]:
        for vote in task["votes"]:
            said.append(_voted(task, vote))
        if task["state"] in ("expired", "withdrawn", "open"):
            fate = {"expired": "nobody decided in time", "withdrawn": "withdrawn before it was decided", "open": "open"}
            said.append(f"{sentence(title(task['activity']))}: {fate[task['state']]}.")
    if state.failure:
        said.append(f"It turned back: {state.failure.get('reason') or state.failure.get('kind')}.")
    undone = undos(told.history)
    if undone:
        said.append(_undone([each.look == "undone" for each in undone]))
    elif state.phase == "completed":
        said.append("Nothing had to be undone.")
    if told.found["operators"]:
        count = len(told.found["operators"])
        said.append(f"Operators acted {count} time{'s' if count > 1 else ''}; each act stands below with its reason.")
    return said


def _undone(done: Sequence[bool]) -> str:
    if all(done):
        return f"All {len(done)} steps that had to be undone were undone." if len(done) > 1 else "One step was undone."
    return f"Of {len(done)} steps that had to be undone, {sum(done)} {'was' if sum(done) == 1 else 'were'} undone."


def _voted(task: Mapping[str, Any], vote: Mapping[str, Any]) -> str:
    """maria (manager) decided approve on manager approval, for asha (record 12)."""
    roles = f" ({', '.join(vote['roles'])})" if vote.get("roles") else ""
    behalf = f", for {vote['on_behalf_of']}" if vote.get("on_behalf_of") else ""
    void = " (void: what was shown changed afterwards)" if vote["void"] else ""
    what = f"{vote['outcome']} on {title(task['activity'])}"
    return f"{vote['by']}{roles} decided {what}{behalf}{void} (record {vote['record']})."


def style_of(name: str) -> str:
    """A style sheet; the colours are those of the pages."""
    folder = files("orchestrator.pages") / "assets" if name == "tokens.css" else files(__package__) / "templates"
    return (folder / name).read_text("utf-8")


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("orchestrator.evidence.pack"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["odd"] = marked
    return environment
